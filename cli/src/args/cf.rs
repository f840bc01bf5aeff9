//! The spellings of the cf CLI, turned into our own.
//!
//! cf knows allow rules only, tcp and udp only, and always a port: tcp and 8080 unless told otherwise.

use clap::Args;
use policy_api::model::{AppName, Ports, Protocol, Selector};

use super::rule::TrafficArgs;
use super::value::BadValue;
use crate::failure::Failure;

/// Flags of `add-network-policy` and `remove-network-policy`.
#[derive(Args, Debug)]
pub(crate) struct CfPolicyArgs {
    /// The app that connects
    #[arg(value_name = "SOURCE_APP")]
    pub(crate) source: AppName,
    /// The app that is reached
    #[arg(
        value_name = "DESTINATION_APP",
        required_unless_present = "destination_app",
        conflicts_with = "destination_app"
    )]
    destination: Option<AppName>,
    /// The app that is reached, as cf 6 takes it
    #[arg(long, value_name = "APP")]
    destination_app: Option<AppName>,
    /// tcp or udp
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp", value_parser = cf_protocol)]
    protocol: Protocol,
    /// A port or a range
    #[arg(long, value_name = "RANGE", default_value = "8080")]
    port: Ports,
}

impl CfPolicyArgs {
    /// Returns the pair in our own words.
    pub(crate) fn pair(&self) -> Result<(Selector, Selector), Failure> {
        match self.destination.as_ref().or(self.destination_app.as_ref()) {
            Some(destination) => Ok((self.source.clone().into(), destination.clone().into())),
            None => Err(Failure::usage("name the destination app")),
        }
    }

    /// Returns protocol and port in our own words.
    pub(crate) fn traffic(&self) -> TrafficArgs {
        TrafficArgs::new(self.protocol, self.port.clone())
    }
}

/// Flags of `network-policies`.
#[derive(Args, Debug)]
pub(crate) struct CfListArgs {
    /// Only rules of this source
    #[arg(long, value_name = "SOURCE_APP")]
    pub(crate) source: Option<AppName>,
}

fn cf_protocol(text: &str) -> Result<Protocol, BadValue> {
    match text.parse::<Protocol>() {
        Ok(protocol @ (Protocol::Tcp | Protocol::Udp)) => Ok(protocol),
        Ok(Protocol::Sctp | Protocol::Icmp | Protocol::Any) | Err(_) => {
            Err(BadValue::new(format!("`{text}` is no protocol of cf's; write tcp or udp, or use `netpol allow`")))
        }
    }
}
