//! The way to the policy API, and what its refusals mean for the exit code.

use policy_api::client::{Client, ClientError};
use policy_api::model::{App, AppName, InvalidField, Problem, Rule, RuleFilter, Selector, nearest_name};

use crate::failure::{Exit, Failure};
use crate::settings::Settings;
use crate::terminal::printable;

/// Makes a client from the settings; nothing is sent yet.
pub(crate) fn client(settings: &Settings) -> Result<Client, Failure> {
    Ok(Client::new(settings.client_config()?)?)
}

/// The rules that fit; none where an app is named that is not known yet.
pub(crate) async fn rules(client: &Client, filter: &RuleFilter) -> Result<Vec<Rule>, Failure> {
    match client.list_rules(filter).await {
        Ok(list) => Ok(list.items.into_iter().map(|view| view.rule).collect()),
        Err(error) if error.status() == Some(404) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Config(_) => Failure::usage(error.to_string()),
            ClientError::Problem(problem) | ClientError::Busy { problem, .. } => refusal(problem),
            ClientError::Protocol(_) => Failure::new(Exit::Unreachable, printable(&error.to_string())),
            ClientError::Unreachable { why, .. } => {
                let tip = if why.contains("certificate") {
                    "--ca must name the ca.pem that `netpol-api init` wrote for this API"
                } else {
                    "is netpol-api running there? --api or NETPOL_API names other addresses"
                };
                Failure::new(Exit::Unreachable, printable(&error.to_string())).tip(tip)
            }
        }
    }
}

/// Input that the CLI itself can tell is wrong.
impl From<InvalidField> for Failure {
    fn from(invalid: InvalidField) -> Self {
        Failure::usage(invalid.to_string())
    }
}

fn refusal(problem: &Problem) -> Failure {
    if problem.status == 401 {
        // What a request must look like is this program's business, not its user's.
        return Failure::new(Exit::NotPermitted, "the policy API does not know this token").tip(
            "it comes from --token-file, NETPOL_TOKEN_FILE, NETPOL_TOKEN or `netpol login`; `netpol-api init` writes operator.token",
        );
    }
    let exit = Exit::from_status(problem.status);
    let detail = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let named = problem.field.as_ref().filter(|field| !detail.contains(&format!("`{field}`")));
    let message = match named {
        Some(field) => format!("{field}: {detail}"),
        None => detail.clone(),
    };
    Failure::new(exit, printable(&message))
}

/// Says which of the selectors names no app, and which app was perhaps meant.
pub(crate) fn unknown_apps(selectors: &[&Selector], apps: &[App]) -> Vec<String> {
    let apps_named = selectors.iter().filter_map(|selector| selector.app());
    apps_named.filter(|name| !is_known(name, apps)).map(|name| unknown_app(name, apps)).collect()
}

fn is_known(name: &AppName, apps: &[App]) -> bool {
    apps.iter().any(|app| app.name == *name)
}

fn unknown_app(name: &AppName, apps: &[App]) -> String {
    match nearest_name(name.as_str(), apps.iter().map(|app| app.name.as_str())) {
        Some(near) => format!("no app is named `{name}`; did you mean `{near}`?"),
        None => format!("no app is named `{name}`; `netpol apps` shows all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, detail: &str, field: Option<&str>) -> Failure {
        let problem = Problem {
            kind: "about:blank".into(),
            title: "Refused".into(),
            status,
            detail: detail.into(),
            field: field.map(str::to_owned),
        };
        ClientError::Problem(Box::new(problem)).into()
    }

    #[test]
    fn every_status_has_its_exit_code() {
        let cases = [
            (400, 2),
            (413, 2),
            (422, 2),
            (401, 3),
            (403, 3),
            (404, 1),
            (409, 6),
            (412, 6),
            (408, 5),
            (504, 5),
            (500, 4),
            (503, 4),
        ];
        for (status, code) in cases {
            assert_eq!(problem(status, "no", None).exit().code(), code, "status {status}");
        }
        let unreachable = ClientError::Unreachable { api: "https://a".into(), why: "refused".into() };
        assert_eq!(Failure::from(unreachable).exit(), Exit::Unreachable);
    }

    #[test]
    fn a_refusal_names_the_field_once() {
        assert!(problem(400, "is bad", Some("ports")).to_string().starts_with("error: ports: is bad"));
        assert!(problem(400, "field `ports`: is bad", Some("ports")).to_string().starts_with("error: field `ports`"));
        assert!(problem(400, "", None).to_string().starts_with("error: Refused"));
    }

    #[test]
    fn an_unknown_app_gets_the_nearest_known_one() {
        let apps: Vec<App> = serde_json::from_str(r#"[{"name":"appA","identity":256,"revision":1}]"#).expect("apps");
        let (known, typo, host): (Selector, Selector, Selector) =
            ("appA".parse().expect("app"), "apA".parse().expect("app"), Selector::Host);
        assert_eq!(unknown_apps(&[&known, &typo, &host], &apps), ["no app is named `apA`; did you mean `appA`?"]);
    }
}
