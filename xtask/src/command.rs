//! What the user typed, parsed once and refused by name; nothing below sees raw arguments.

use crate::userland::Profile;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help(Topic),
    Setup,
    Lint(LintScope),
    Test { filter: Option<String> },
    Soak { name: String },
    Api,
    Demo,
    Bench { profile: Profile, arguments: Vec<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Overview,
    Setup,
    Lint,
    Test,
    Api,
    Demo,
    Bench,
    Soak,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LintScope {
    Code,
    CodeAndDependencies,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(pub(crate) String);

pub(crate) fn parse(arguments: &[String]) -> Result<Command, UsageError> {
    let Some((verb, rest)) = arguments.split_first() else {
        return Ok(Command::Help(Topic::Overview));
    };
    if matches!(verb.as_str(), "help" | "--help" | "-h") {
        return help(rest);
    }
    let topic = topic(verb)?;
    if rest.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help(topic));
    }
    match topic {
        Topic::Overview => Ok(Command::Help(Topic::Overview)),
        Topic::Setup => nothing_more(verb, rest).map(|()| Command::Setup),
        Topic::Demo => nothing_more(verb, rest).map(|()| Command::Demo),
        Topic::Api => nothing_more(verb, rest).map(|()| Command::Api),
        Topic::Lint => lint(rest),
        Topic::Test => test(rest),
        Topic::Soak => soak(rest),
        Topic::Bench => bench(rest),
    }
}

fn topic(word: &str) -> Result<Topic, UsageError> {
    match word {
        "setup" => Ok(Topic::Setup),
        "lint" => Ok(Topic::Lint),
        "test" => Ok(Topic::Test),
        "api" => Ok(Topic::Api),
        "demo" => Ok(Topic::Demo),
        "bench" => Ok(Topic::Bench),
        "soak" => Ok(Topic::Soak),
        other => Err(UsageError(format!("there is no command `{other}`"))),
    }
}

fn help(rest: &[String]) -> Result<Command, UsageError> {
    match rest {
        [] => Ok(Command::Help(Topic::Overview)),
        [word] => topic(word).map(Command::Help),
        _ => Err(UsageError("`help` takes one command at most".into())),
    }
}

fn nothing_more(verb: &str, rest: &[String]) -> Result<(), UsageError> {
    match rest.first() {
        None => Ok(()),
        Some(word) => Err(UsageError(format!("`{verb}` takes no arguments, but got `{word}`"))),
    }
}

fn lint(rest: &[String]) -> Result<Command, UsageError> {
    match rest {
        [] => Ok(Command::Lint(LintScope::Code)),
        [word] if word == "--deps" => Ok(Command::Lint(LintScope::CodeAndDependencies)),
        [word, ..] => Err(UsageError(format!("`lint` takes only `--deps`, but got `{word}`"))),
    }
}

fn test(rest: &[String]) -> Result<Command, UsageError> {
    match rest {
        [] => Ok(Command::Test { filter: None }),
        [word] if !word.starts_with('-') => Ok(Command::Test { filter: Some(word.clone()) }),
        [word] => Err(UsageError(format!("`test` has no flag `{word}`"))),
        _ => Err(UsageError("`test` takes one filter at most".into())),
    }
}

fn soak(rest: &[String]) -> Result<Command, UsageError> {
    match rest {
        [word] if !word.starts_with('-') => Ok(Command::Soak { name: word.clone() }),
        _ => Err(UsageError("`soak` takes the name of one test file or test".into())),
    }
}

/// Names and flags behind them belong to the bench program; only `--release` is ours.
fn bench(rest: &[String]) -> Result<Command, UsageError> {
    let (ours, arguments): (Vec<_>, Vec<_>) = rest.iter().cloned().partition(|word| word == "--release");
    if arguments.is_empty() {
        return Err(UsageError("`bench` takes at least one name, such as `datapath`".into()));
    }
    let profile = if ours.is_empty() { Profile::Debug } else { Profile::Release };
    Ok(Command::Bench { profile, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn nothing_typed_asks_for_the_overview() {
        assert_eq!(parsed(""), Ok(Command::Help(Topic::Overview)));
    }

    #[test]
    fn help_is_had_before_and_after_the_command() {
        assert_eq!(parsed("help lint"), Ok(Command::Help(Topic::Lint)));
        assert_eq!(parsed("lint --help"), Ok(Command::Help(Topic::Lint)));
    }

    #[test]
    fn a_filter_is_one_word_and_no_flag() {
        assert_eq!(parsed("test story"), Ok(Command::Test { filter: Some("story".into()) }));
        assert!(parsed("test --fast").is_err());
        assert!(parsed("test a b").is_err());
    }

    #[test]
    fn bench_keeps_the_words_that_belong_to_the_bench_program() {
        let expected =
            Command::Bench { profile: Profile::Release, arguments: vec!["path".into(), "--pairs".into(), "15".into()] };
        assert_eq!(parsed("bench path --release --pairs 15"), Ok(expected));
        assert!(parsed("bench").is_err());
    }

    #[test]
    fn an_unknown_command_is_refused_by_name() {
        assert_eq!(parsed("tset"), Err(UsageError("there is no command `tset`".into())));
    }
}
