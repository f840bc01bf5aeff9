//! Teams, tokens and requests as rows.

use std::fmt::Display;

use policy_api::model::{ApiToken, RuleRequest, Team, Timestamp, TokenView};

use super::table::{Column, Field};
use super::{Row, phrase};

impl Row for Team {
    const COLUMNS: &'static [Column] = &[
        Column::always("TEAM"),
        Column::always("APPS"),
        Column::noted("GROUPS"),
        Column::noted("RESOURCES"),
        Column::noted("MOST-RULES"),
        Column::noted("MOST-APPS"),
        Column::wide("REVISION"),
    ];
    const PLURAL: &'static str = "teams";

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new(&self.name),
            Field::new(listed(&self.apps)),
            Field::new(listed(&self.groups)),
            Field::new(listed(&self.resources)),
            Field::maybe(self.most_rules),
            Field::maybe(self.most_apps),
            Field::new(self.revision),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

impl Row for ApiToken {
    const COLUMNS: &'static [Column] = &[
        Column::always("TOKEN"),
        Column::always("ROLES"),
        Column::noted("EXPIRES"),
        Column::always("AGE"),
        Column::wide("BY"),
        Column::wide("REVISION"),
    ];
    const PLURAL: &'static str = "tokens";

    fn fields(&self) -> Vec<Field> {
        let now = Timestamp::now();
        vec![
            Field::new(&self.name),
            Field::new(listed(&self.grants)),
            Field::maybe(self.expires_at.map(|end| phrase::in_time(end, now))),
            Field::new(phrase::age(self.created_at, now)),
            Field::new(&self.created_by),
            Field::new(self.revision),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

impl Row for TokenView {
    const COLUMNS: &'static [Column] = &[
        Column::always("TOKEN"),
        Column::always("ROLES"),
        Column::noted("EXPIRES"),
        Column::always("AGE"),
        Column::wide("BY"),
        Column::wide("REVISION"),
        Column::always("LAST-USED"),
        Column::wide("KNOWN-SINCE"),
    ];
    const PLURAL: &'static str = ApiToken::PLURAL;

    fn fields(&self) -> Vec<Field> {
        let now = Timestamp::now();
        let used = [Field::maybe(self.last_used_at.map(|used| phrase::age(used, now))), Field::new(self.known_since)];
        self.token.fields().into_iter().chain(used).collect()
    }

    fn name(&self) -> String {
        self.token.name()
    }
}

impl Row for RuleRequest {
    const COLUMNS: &'static [Column] = &[
        Column::always("REQUEST"),
        Column::always("ASKS"),
        Column::always("TEAM"),
        Column::always("OF"),
        Column::always("AGE"),
        Column::wide("EXPIRES"),
        Column::wide("BY"),
        Column::noted("REASON"),
    ];
    const PLURAL: &'static str = "requests";

    fn fields(&self) -> Vec<Field> {
        let now = Timestamp::now();
        vec![
            Field::new(self.id),
            Field::new(phrase::tuple(&self.rule.tuple())),
            Field::new(&self.team),
            Field::new(self.of.as_ref().map_or_else(|| "operators".to_owned(), ToString::to_string)),
            Field::new(phrase::age(self.created_at, now)),
            Field::new(phrase::in_time(self.expires_at, now)),
            Field::new(&self.created_by),
            Field::maybe(self.rule.reason.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.id.to_string()
    }
}

pub(crate) fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}
