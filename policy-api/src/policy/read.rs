//! From files to a policy. What is wrong is refused by file, line and field, and by what would be right.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    fmt,
};

use serde_json::Value;

use super::{
    End, Policy, Settings, WantedRule,
    yaml::{self, Document, Place},
};
use crate::model::{
    API_VERSION, AppName, Fields, GroupName, Invalid, InvalidField, LayerSpec, Lifetime, ResourceSpec, RoleSpec,
    RuleSpec,
};

/// A file that was read.
#[derive(Clone, Debug)]
pub struct File {
    /// As its user knows it.
    pub name: String,
    pub text: String,
}

/// Why a file is refused: `web.yaml:12:5: field …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {text}")]
pub struct BadFile {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub text: String,
}

/// Reads files as one policy: what one says must not be said by another.
pub fn read(files: &[File]) -> Result<Policy, BadFile> {
    let mut reader = Reader::default();
    for file in files {
        let unreadable = |bad: yaml::Unreadable| refuse(&file.name, bad.place, bad.text);
        for document in yaml::documents(&file.text).map_err(unreadable)? {
            let refused =
                |invalid: InvalidField| refuse(&file.name, document.place(&invalid.field), invalid.to_string());
            reader.document(&file.name, &document).map_err(refused)?;
        }
    }
    Ok(reader.policy)
}

fn refuse(file: &str, place: Place, text: String) -> BadFile {
    BadFile { file: file.to_owned(), line: place.line, column: place.column, text }
}

/// Where something was said.
#[derive(Clone, Debug)]
struct Said {
    file: String,
    place: Place,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.place.line)
    }
}

/// A file, and the document of it that is read.
type Part<'a> = (&'a str, &'a Document);

#[derive(Default)]
struct Reader {
    policy: Policy,
    /// Where each app, rule, layer, role and resource was said: apps by names without case, rules by tuples as text.
    said: HashMap<String, Said>,
}

impl Reader {
    fn document(&mut self, file: &str, document: &Document) -> Result<(), InvalidField> {
        if document.value.is_null() {
            return Ok(());
        }
        let mut fields = Fields::of_body(document.value.clone())?;
        if let Some(version) = fields.text("apiVersion")?.filter(|version| version != API_VERSION) {
            let problem = "is not a version of policy that is known";
            return Err(Invalid::new(version, problem, format!("write `{API_VERSION}`")).in_field("apiVersion"));
        }
        let groups = fields.texts("groups")?.unwrap_or_default();
        let apps = fields.list("apps")?.unwrap_or_default();
        let rules = fields.list("rules")?.unwrap_or_default();
        let [layers, roles, resources] = [fields.list("layers")?, fields.list("roles")?, fields.list("resources")?];
        fields.finish()?;
        let at = (file, document);
        self.layers(at, layers)?;
        self.roles(at, roles)?;
        self.resources(at, resources)?;
        self.policy.groups.extend(parse_groups("groups", groups)?);
        for (i, app) in apps.into_iter().enumerate() {
            self.app(file, document, format!("apps[{i}]"), app)?;
        }
        for (i, rule) in rules.into_iter().enumerate() {
            self.rule(file, document, format!("rules[{i}]"), rule)?;
        }
        Ok(())
    }

    fn app(&mut self, file: &str, document: &Document, path: String, value: Value) -> Result<(), InvalidField> {
        let mut fields = Fields::at(path.clone(), value)?;
        let name: AppName = fields.required("name", "name the app")?;
        let mode = fields.parsed("mode")?;
        let groups = match fields.texts("groups")? {
            Some(texts) => Some(parse_groups(&fields.path("groups"), texts)?),
            None => None,
        };
        fields.finish()?;
        self.say_once(
            format!("app {}", name.folded()),
            &name,
            Said { file: file.to_owned(), place: document.place(&path) },
        )
        .map_err(|invalid| invalid.in_field(format!("{path}.name")))?;
        self.policy.apps.insert(name, Settings { mode, groups });
        Ok(())
    }

    fn rule(&mut self, file: &str, document: &Document, path: String, value: Value) -> Result<(), InvalidField> {
        let mut fields = Fields::at(path.clone(), value)?;
        let ttl: Option<Lifetime> = fields.parsed("ttl")?;
        let mut spec = RuleSpec::from_fields(fields)?;
        let end = match (spec.expires_at.take(), ttl) {
            (Some(_), Some(_)) => {
                let problem = "says an end, and `expires_at` says another";
                return Err(Invalid::of("the field", problem, "keep one of the two").in_field(format!("{path}.ttl")));
            }
            (Some(at), None) => End::At(at),
            (None, Some(Lifetime(ttl))) => End::After(ttl),
            (None, None) => End::Never,
        };
        let tuple = spec.tuple();
        let words =
            format!("{} {} -> {} {}/{}", tuple.action, tuple.source, tuple.destination, tuple.protocol, tuple.ports);
        self.say_once(format!("rule {words}"), &words, Said { file: file.to_owned(), place: document.place(&path) })
            .map_err(|invalid| invalid.in_field(path))?;
        self.policy.rules.insert(tuple, WantedRule { spec, end });
        Ok(())
    }

    fn layers(&mut self, at: Part<'_>, items: Option<Vec<Value>>) -> Result<(), InvalidField> {
        let Some(items) = items else { return Ok(()) };
        let specs = self.specs(at, "layers", items, LayerSpec::from_fields, |spec| format!("layer {}", spec.name))?;
        let layers = self.policy.access.layers.get_or_insert_default();
        layers.extend(specs.into_iter().map(|spec| (spec.name.clone(), spec)));
        Ok(())
    }

    fn roles(&mut self, at: Part<'_>, items: Option<Vec<Value>>) -> Result<(), InvalidField> {
        let Some(items) = items else { return Ok(()) };
        let specs = self.specs(at, "roles", items, RoleSpec::from_fields, |spec| format!("role {}", spec.name))?;
        let roles = self.policy.access.roles.get_or_insert_default();
        roles.extend(specs.into_iter().map(|spec| (spec.name.clone(), spec)));
        Ok(())
    }

    fn resources(&mut self, at: Part<'_>, items: Option<Vec<Value>>) -> Result<(), InvalidField> {
        let Some(items) = items else { return Ok(()) };
        let specs =
            self.specs(at, "resources", items, ResourceSpec::from_fields, |spec| format!("resource {}", spec.id))?;
        let resources = self.policy.access.resources.get_or_insert_default();
        resources.extend(specs.into_iter().map(|spec| (spec.id.clone(), spec)));
        Ok(())
    }

    fn specs<T>(
        &mut self,
        (file, document): Part<'_>,
        section: &str,
        items: Vec<Value>,
        read: fn(Fields) -> Result<T, InvalidField>,
        name: fn(&T) -> String,
    ) -> Result<Vec<T>, InvalidField> {
        let mut specs = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let path = format!("{section}[{i}]");
            let spec = read(Fields::at(path.clone(), item)?)?;
            let said = Said { file: file.to_owned(), place: document.place(&path) };
            self.say_once(name(&spec), &name(&spec), said).map_err(|invalid| invalid.in_field(path))?;
            specs.push(spec);
        }
        Ok(specs)
    }

    fn say_once(&mut self, key: String, what: &impl fmt::Display, said: Said) -> Result<(), Invalid> {
        match self.said.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(said);
                Ok(())
            }
            Entry::Occupied(first) => {
                let problem = format!("is said already by {}", first.get());
                Err(Invalid::new(what, problem, "say it once"))
            }
        }
    }
}

fn parse_groups(path: &str, texts: Vec<String>) -> Result<BTreeSet<GroupName>, InvalidField> {
    let parse =
        |(i, text): (usize, String)| text.parse().map_err(|invalid: Invalid| invalid.in_field(format!("{path}[{i}]")));
    texts.into_iter().enumerate().map(parse).collect()
}
