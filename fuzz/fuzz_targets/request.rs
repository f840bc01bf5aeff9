//! Bodies of requests: whatever they are, they are taken apart or refused, and a change set that is taken is sent as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_api::model::{
    AppSettings, ChangeSet, Claim, IsolationSpec, Join, Report, RuleSpec, UsageReport, strict_json,
};

fuzz_target!(|body: &[u8]| {
    let Ok(value) = strict_json(body) else { return };
    let _settings = AppSettings::from_json(value.clone());
    let _isolation = IsolationSpec::from_json(value.clone());
    let _rule = RuleSpec::from_json(value.clone());
    let _usage = UsageReport::from_json(value.clone());
    let _claim = Claim::from_json(value.clone());
    let _join = Join::from_json(value.clone());
    let _report = Report::from_json(value.clone());
    if let Ok(set) = ChangeSet::from_json(value) {
        let again = serde_json::to_value(&set).expect("what was read can be written");
        assert_eq!(ChangeSet::from_json(again), Ok(set));
    }
});
