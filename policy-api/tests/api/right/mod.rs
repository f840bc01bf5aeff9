//! Who may: the matrix of roles, teams, selectors and verbs; tokens; requests.

mod matrix;
mod oidc;
mod request;
mod team;
mod token;
mod verbs;

use policy_api::{
    client::{Client, Credentials, WriteOptions, new_secret},
    model::{Grants, Problem, TeamSettings, TokenSpec},
};

use crate::world::World;

pub(crate) fn plain() -> WriteOptions {
    WriteOptions::default()
}

pub(crate) fn grants(text: &str) -> Grants {
    text.split(' ').map(|grant| grant.parse().expect("role")).collect()
}

/// A team's settings, of lists like `shop-* cart`.
pub(crate) fn owning(apps: &str, groups: &str) -> TeamSettings {
    let patterns = |text: &str| text.split_whitespace().map(|pattern| pattern.parse().expect("pattern")).collect();
    TeamSettings { apps: patterns(apps), groups: patterns(groups), ..TeamSettings::default() }
}

/// Teams `shop` and `pay`, each with apps and a group of its name; an app and a group of nobody.
pub(crate) async fn world_of_teams() -> World {
    let world = World::new().await;
    for (team, apps, groups) in [("shop", "shop-*", "shop*"), ("pay", "pay-*", "pay*")] {
        let name = team.parse().expect("name");
        world.operator.set_team(&name, &owning(apps, groups), &plain()).await.expect("team");
    }
    for app in ["shop-web", "shop-db", "pay-web", "pay-db", "lone"] {
        let settings = policy_api::model::AppSettings::default();
        world.operator.set_app(&app.parse().expect("name"), &settings, &plain()).await.expect("app");
    }
    for group in ["group:shop", "group:pay", "group:free"] {
        let rule = crate::world::rule(&format!("deny {group} {group} 1"));
        let made = world.operator.put_rule(&rule, &plain()).await.expect("made");
        world.operator.delete_rule(made.rule.id, &plain()).await.expect("deleted");
    }
    world
}

/// A client by a new token with these roles.
pub(crate) async fn user(world: &World, name: &str, roles: &str) -> Client {
    let (secret, hash) = new_secret().expect("random");
    let spec = TokenSpec { name: name.parse().expect("name"), grants: grants(roles), hash, expires_at: None };
    world.operator.create_token(&spec, &plain()).await.expect("token");
    by(world, &secret)
}

pub(crate) fn by(world: &World, secret: &str) -> Client {
    world.prepared.client_by(&[world.url()], Credentials::Token(secret.to_owned()))
}

/// What a refusal for want of a role says; that it names who asked, and what role would do.
pub(crate) fn assert_names_the_role(problem: &Problem, who: &str) {
    let says = |text: &str| problem.detail.contains(text);
    assert_eq!(problem.status, 403, "{}", problem.detail);
    assert!(says(&format!("`{who}` may not ")) && says("it takes role "), "{}", problem.detail);
    assert!(problem.field.is_some(), "{}", problem.detail);
}
