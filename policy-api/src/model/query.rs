//! What the query strings of reading requests say.

use super::{
    fields::Fields,
    invalid::{Invalid, InvalidField},
    name::AppName,
    protocol::Protocol,
    selector::{SELECTORS, Selector},
};

/// Which rules to list. All of the given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFilter {
    pub source: Option<Selector>,
    pub destination: Option<Selector>,
    /// On either side.
    pub app: Option<AppName>,
}

impl RuleFilter {
    pub fn from_fields(fields: &mut Fields) -> Result<Self, InvalidField> {
        Ok(Self {
            source: fields.parsed("source")?,
            destination: fields.parsed("destination")?,
            app: fields.parsed("app")?,
        })
    }

    /// As parameters of a query string.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let text = |name, value: Option<String>| value.map(|value| (name, value));
        let source = text("source", self.source.as_ref().map(ToString::to_string));
        let destination = text("destination", self.destination.as_ref().map(ToString::to_string));
        [source, destination, text("app", self.app.as_ref().map(ToString::to_string))].into_iter().flatten().collect()
    }
}

/// A question about policy: would this flow pass?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckQuery {
    pub source: Selector,
    pub destination: Selector,
    pub protocol: Protocol,
    /// All ports, if absent.
    pub port: Option<u16>,
}

impl CheckQuery {
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let query = Self {
            source: fields.required("source", SELECTORS)?,
            destination: fields.required("destination", SELECTORS)?,
            protocol: fields.parsed("protocol")?.unwrap_or_default(),
            port: fields.standard("port", "is not a port", "use a port from 1 to 65535")?,
        };
        fields.finish()?;
        query.check()?;
        Ok(query)
    }

    fn check(&self) -> Result<(), InvalidField> {
        match self.port {
            Some(0) => return Err(Invalid::new(0, "is not a port", "use a port from 1 to 65535").in_field("port")),
            Some(port) if !self.protocol.has_ports() => {
                return Err(Invalid::new(
                    port,
                    format!("cannot be: {} has no ports", self.protocol),
                    "leave the port out",
                )
                .in_field("port"));
            }
            Some(_) | None => {}
        }
        if !self.source.names_apps() && !self.destination.names_apps() {
            return Err(
                Invalid::new("host", "cannot be both ends of a flow", "name an app at one end").in_field("destination")
            );
        }
        Ok(())
    }

    /// As parameters of a query string.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let ends = [("source", self.source.to_string()), ("destination", self.destination.to_string())];
        let port = self.port.map(|port| ("port", port.to_string()));
        ends.into_iter().chain([("protocol", self.protocol.to_string())]).chain(port).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parameters: &[(&str, &str)]) -> Result<CheckQuery, InvalidField> {
        let owned = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        CheckQuery::from_fields(Fields::of_query(owned)?)
    }

    #[test]
    fn a_question_reads_back_what_it_wrote() {
        let query = check(&[("source", "a"), ("destination", "host"), ("port", "80")]).expect("valid");
        let again: Vec<_> = query.parameters();
        let again: Vec<_> = again.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(check(&again), Ok(query));
    }

    #[test]
    fn a_bad_question_is_refused_naming_the_parameter() {
        let ends = [("source", "a"), ("destination", "b")];
        for (name, value, field) in [
            ("port", "70000", "port"),
            ("port", "0", "port"),
            ("port", "80-90", "port"),
            ("protocol", "igmp", "protocol"),
            ("prot", "tcp", "prot"),
            ("source", "c", "source"),
        ] {
            let parameters: Vec<_> = ends.into_iter().chain([(name, value)]).collect();
            assert_eq!(check(&parameters).expect_err(value).field, field);
        }
        let icmp = [("source", "a"), ("destination", "b"), ("protocol", "icmp"), ("port", "8")];
        assert_eq!(check(&icmp).expect_err("icmp").field, "port");
        assert_eq!(check(&[("source", "a")]).expect_err("missing").field, "destination");
        assert_eq!(check(&[("source", "host"), ("destination", "host")]).expect_err("no app").field, "destination");
    }
}
