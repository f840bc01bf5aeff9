#!/bin/sh
# What a job does: release.sh POST v1.2.3. It knows where releases go, and nothing of tokens: run it beside a forwarder,
#   netpol-agent forwarder --to release-bot.example.org=production/release-bot,tls -- ./release.sh POST v1.2.3
set -eu
exec curl --silent --show-error --max-time 10 --write-out '%{http_code}\n' \
    --request "$1" "${RELEASE_BOT:-http://release-bot.example.org}/releases/$2"
