//! Where requests may go: which destinations are told who the client is, and how each is known to be the right one. Pure.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Authority};
use policy_api::model::Audience;

/// A destination that gets tokens: `HOST[:PORT]=AUDIENCE[,tls|,unproven]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) place: Place,
    /// Whom its tokens are for: the app or the resource that is called.
    pub(super) audience: Audience,
    pub(super) proof: Proof,
}

/// How a destination is known to be whom the token is for, before the token is sent (`security.md` 38).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Its address is one of the overlay, and placed as the audience's app.
    Placed,
    /// It is spoken to by TLS, and its certificate is for the destination's name.
    Tls,
    /// By nothing: whoever answers there, and whoever is on the way, may use the token.
    Unproven,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// In lower case, without a final dot; an address of IPv6 without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// What passes without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Place(Place),
    /// This host at any port.
    Host(String),
    Any,
}

/// All that a forwarder knows of where requests may go.
#[derive(Clone, Debug, Default)]
pub(super) struct Destinations {
    pub(super) to: Vec<Destination>,
    pub(super) pass: Vec<Passed>,
}

/// What becomes of a request to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// It gets a token.
    Token(&'a Destination),
    /// It goes on as it came.
    Passed,
    /// It goes nowhere.
    Nowhere,
}

/// Why a text names no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {problem}; {remedy}")]
pub(super) struct NoDestination {
    text: String,
    problem: &'static str,
    remedy: &'static str,
}

const HTTP: u16 = 80;
const HTTPS: u16 = 443;

impl Place {
    /// The place that an authority names; nothing, where it carries a user or is no host.
    pub(super) fn of(authority: &Authority, default_port: u16) -> Option<Self> {
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => port.parse().ok()?,
            Some(_) | None => default_port,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        (!host.is_empty() && port != 0).then_some(Self { host, port })
    }

    /// As a URI and a `Host` header write it.
    pub(super) fn authority(&self, default_port: u16) -> String {
        let bracketed = self.host.contains(':');
        let host = if bracketed { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority(0))
    }
}

impl Destination {
    pub(super) fn default_port(&self) -> u16 {
        match self.proof {
            Proof::Tls => HTTPS,
            Proof::Placed | Proof::Unproven => HTTP,
        }
    }
}

impl FromStr for Destination {
    type Err = NoDestination;

    fn from_str(text: &str) -> Result<Self, NoDestination> {
        const REMEDY: &str = "write HOST[:PORT]=AUDIENCE, and `,tls` behind it where TLS proves who answers";
        let refuse = |problem| NoDestination { text: text.to_owned(), problem, remedy: REMEDY };
        let (place, rest) = text.split_once('=').ok_or_else(|| refuse("does not say whom tokens are for"))?;
        let (audience, proof) = match rest.split_once(',') {
            None => (rest, Proof::Placed),
            Some((audience, "tls")) => (audience, Proof::Tls),
            Some((audience, "unproven")) => (audience, Proof::Unproven),
            Some(_) => return Err(refuse("has something behind the comma that means nothing")),
        };
        let audience: Audience = audience.parse().map_err(|_| refuse("does not name an app or a resource"))?;
        if proof == Proof::Placed && audience.as_str().contains('/') {
            return Err(NoDestination {
                text: text.to_owned(),
                problem: "is about a resource, and addresses are placed as apps",
                remedy: "name the app, or add `,tls` where TLS proves who answers, or `,unproven` where nothing has to",
            });
        }
        let default_port = if proof == Proof::Tls { HTTPS } else { HTTP };
        let place = place_of(place, default_port).ok_or_else(|| refuse("does not name a host and a port"))?;
        Ok(Self { place, audience, proof })
    }
}

impl FromStr for Passed {
    type Err = NoDestination;

    fn from_str(text: &str) -> Result<Self, NoDestination> {
        let refuse = || NoDestination {
            text: text.to_owned(),
            problem: "is no destination",
            remedy: "write HOST, HOST:PORT or `any`",
        };
        if text == "any" {
            return Ok(Self::Any);
        }
        let place = place_of(text, 1).ok_or_else(refuse)?;
        // A port that is written is meant, also where it is the one that stands for none.
        let is_written = text.parse::<Authority>().is_ok_and(|authority| authority.port_u16().is_some());
        Ok(if is_written { Self::Place(place) } else { Self::Host(place.host) })
    }
}

fn place_of(text: &str, default_port: u16) -> Option<Place> {
    Place::of(&text.parse::<Authority>().ok()?, default_port)
}

impl Destinations {
    /// What becomes of a request to this place.
    pub(super) fn way(&self, place: &Place) -> Way<'_> {
        // A client writes `http://`, also where the forwarder speaks TLS: without a port both standard ones are meant.
        let is_meant = |to: &&Destination| {
            let standard = to.place.port == to.default_port() && place.port == HTTP;
            to.place.host == place.host && (to.place.port == place.port || standard)
        };
        match self.to.iter().find(is_meant) {
            Some(destination) => Way::Token(destination),
            None if self.passes(place) => Way::Passed,
            None => Way::Nowhere,
        }
    }

    fn passes(&self, place: &Place) -> bool {
        self.pass.iter().any(|passed| match passed {
            Passed::Place(passed) => passed == place,
            Passed::Host(host) => *host == place.host,
            Passed::Any => true,
        })
    }
}

/// Where a request wants to go, as its client wrote it.
pub(super) fn place_of_request(uri: &Uri) -> Option<Place> {
    match uri.scheme_str() {
        Some("http") => Place::of(uri.authority()?, HTTP),
        Some("https") => Place::of(uri.authority()?, HTTPS),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destinations() -> Destinations {
        let to = ["release-bot=release-bot", "id.example.org=production/id,tls", "[fd00::1]:8080=web,unproven"];
        let to = to.iter().map(|text| text.parse().expect(text)).collect();
        let pass = ["mirror.example.org", "pkg.example.org:443"].iter().map(|text| text.parse().expect(text)).collect();
        Destinations { to, pass }
    }

    fn audience(url: &str) -> Option<String> {
        let place = place_of_request(&url.parse().expect(url))?;
        match destinations().way(&place) {
            Way::Token(destination) => Some(destination.audience.to_string()),
            Way::Passed => Some("passed".to_owned()),
            Way::Nowhere => None,
        }
    }

    #[test]
    fn a_token_goes_to_exactly_the_places_that_are_named() {
        assert_eq!(audience("http://release-bot/x").as_deref(), Some("release-bot"));
        assert_eq!(audience("http://Release-Bot.:80/x").as_deref(), Some("release-bot"));
        assert_eq!(audience("http://id.example.org/").as_deref(), Some("production/id"));
        assert_eq!(audience("http://id.example.org:443/").as_deref(), Some("production/id"));
        assert_eq!(audience("http://[fd00::1]:8080/").as_deref(), Some("web"));
        assert_eq!(audience("http://mirror.example.org:8080/").as_deref(), Some("passed"));
        for elsewhere in [
            "http://release-bot:8080/",
            "http://release-bot.evil.example/",
            "http://evil.example/release-bot",
            "http://release-bot@evil.example/",
            "http://evil.example@release-bot/",
            "http://pkg.example.org/",
            "http://[fd00::1]/",
            "http://id.example.org:8443/",
        ] {
            assert_eq!(audience(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_destination_says_how_it_is_proven() {
        let proof = |text: &str| text.parse::<Destination>().map(|to| (to.place.port, to.proof));
        assert_eq!(proof("a=b"), Ok((80, Proof::Placed)));
        assert_eq!(proof("a=b,tls"), Ok((443, Proof::Tls)));
        assert_eq!(proof("127.0.0.1:8443=b,unproven"), Ok((8443, Proof::Unproven)));
        for text in
            ["", "a", "=b", "a=", "a=b,", "a=b,TLS", "a=b c", "a:0=b", "a:x=b", "u@a=b", "a/b=c", "a=production/b"]
        {
            let error = text.parse::<Destination>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
