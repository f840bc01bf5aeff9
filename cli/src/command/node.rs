//! `attach` and `detach`: through the agent's socket, with a namespace that somebody else made.

use serde::Serialize;

use crate::agent::{Agent, AttachRequest, Attached, Detached};
use crate::args::{AttachArgs, DetachArgs, EndpointArgs};
use crate::failure::{Exit, Failure};
use crate::netns::{Netns, NetnsError};
use crate::output::{Answer, Detail, phrase};
use crate::settings::Settings;
use crate::terminal::Look;

/// Gives a namespace an endpoint.
pub(crate) async fn attach(args: &AttachArgs, settings: &Settings) -> Result<Exit, Failure> {
    let netns = Netns::open(&args.netns.netns)?;
    let attached = Agent::at(&settings.socket).attach(&netns, &request(&args.endpoint)?).await?;
    let undo = format!("netpol detach --netns {}", phrase::shell_word(&args.netns.netns.to_string_lossy()));
    let printer = settings.printer;
    printer.answer(&AttachAnswer { attached: &attached, undo: &undo })?;
    remarks(&attached).iter().for_each(|remark| printer.say(remark));
    printer.say(&format!("undo: {undo}"));
    Ok(Exit::Ok)
}

/// Takes a namespace's endpoint away.
pub(crate) async fn detach(args: &DetachArgs, settings: &Settings) -> Result<Exit, Failure> {
    let netns = Netns::open(&args.netns.netns)?;
    let detached = Agent::at(&settings.socket).detach(&netns).await?;
    let undo = format!(
        "netpol attach --app {} --instance {} --netns {}",
        detached.app,
        detached.instance,
        phrase::shell_word(&args.netns.netns.to_string_lossy())
    );
    settings.printer.answer(&DetachAnswer { detached: &detached, undo: &undo })?;
    settings.printer.say(&format!("undo: {undo}"));
    Ok(Exit::Ok)
}

/// Turns the flags into what the agent is asked for.
pub(crate) fn request(endpoint: &EndpointArgs) -> Result<AttachRequest, Failure> {
    let mut labels = std::collections::BTreeMap::new();
    for label in &endpoint.labels {
        if labels.insert(label.key.clone(), label.value.clone()).is_some() {
            return Err(Failure::usage(format!("--label: `{}` is given twice", label.key)));
        }
    }
    Ok(AttachRequest {
        app: endpoint.app.to_string(),
        instance: endpoint.instance,
        ifname: endpoint.ifname.0.clone(),
        labels,
    })
}

/// What one should know about a fresh endpoint besides that it exists.
pub(crate) fn remarks(attached: &Attached) -> Vec<String> {
    let missing = (!attached.missing.is_empty()).then(|| {
        format!(
            "note: not yet known to {}: packets from {}/{} are dropped there until then",
            attached.missing.join(", "),
            attached.app,
            attached.instance
        )
    });
    let note = attached.note.as_ref().map(|note| format!("note: {}", crate::terminal::printable(note)));
    missing.into_iter().chain(note).collect()
}

impl From<NetnsError> for Failure {
    fn from(error: NetnsError) -> Self {
        let denied = |source: &std::io::Error| source.kind() == std::io::ErrorKind::PermissionDenied;
        match &error {
            NetnsError::Open { source, .. } if denied(source) => Failure::new(Exit::NotPermitted, error.to_string()),
            NetnsError::Open { .. } | NetnsError::NotANamespace(_) => Failure::usage(error.to_string())
                .tip("`ip netns list` shows the named ones; /proc/PID/ns/net is that of a process"),
            NetnsError::Make(source) | NetnsError::Loopback(source) if denied(source) => {
                Failure::new(Exit::NotPermitted, error.to_string()).tip("making network namespaces takes root")
            }
            NetnsError::Make(_) | NetnsError::Loopback(_) => Failure::new(Exit::Unreachable, error.to_string()),
        }
    }
}

#[derive(Serialize)]
struct AttachAnswer<'a> {
    #[serde(flatten)]
    attached: &'a Attached,
    undo: &'a str,
}

impl Answer for AttachAnswer<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let Attached { app, instance, node, interface, host_interface, identity, .. } = self.attached;
        format!(
            "attached {app}/{instance} on {node}: {} on {interface} (identity {identity}, {host_interface} on the node)",
            phrase::comma(&self.attached.addresses)
        )
    }

    fn name(&self) -> String {
        format!("{}/{}", self.attached.app, self.attached.instance)
    }
}

#[derive(Serialize)]
struct DetachAnswer<'a> {
    #[serde(flatten)]
    detached: &'a Detached,
    undo: &'a str,
}

impl Answer for DetachAnswer<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let Detached { app, instance, addresses } = self.detached;
        format!("detached {app}/{instance}: {} free again", phrase::comma(addresses))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.detached.app, self.detached.instance)
    }
}
