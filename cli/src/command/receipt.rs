//! What a change cut: asked of the API, which asks the nodes, and waited for as long as nobody minds.

use std::time::Duration;

use policy_api::client::Client;
use policy_api::model::{Lifetime, Receipt, Revision, Timestamp};

use crate::args::ReceiptArgs;
use crate::failure::{Exit, Failure};
use crate::output::phrase;
use crate::signal;

/// As long as the contract lets a revocation wait for its count.
const PATIENCE: Duration = Duration::from_secs(2);

/// The receipt of a revision, unless nobody wants one; what is not known then is named in it.
pub(crate) async fn of(client: &Client, revision: Revision, args: ReceiptArgs) -> Result<Option<Receipt>, Failure> {
    if args.no_wait {
        return Ok(None);
    }
    tokio::select! {
        receipt = client.receipt(revision, PATIENCE) => Ok(Some(receipt?)),
        () = signal::interrupted() => {
            Err(Failure::new(signal::INTERRUPTED, "interrupted while waiting for the count of flows cut"))
        }
    }
}

/// `3 live flows cut: 2 on n1, 1 on n2; not heard from: n3`.
pub(crate) fn line(receipt: &Receipt) -> String {
    let flows = usize::try_from(receipt.flows).unwrap_or(usize::MAX);
    let cutters = receipt.nodes.iter().filter(|node| node.flows > 0);
    let cutters: Vec<String> = cutters.map(|node| format!("{} on {}", node.flows, node.node)).collect();
    let where_cut = if cutters.is_empty() { String::new() } else { format!(": {}", cutters.join(", ")) };
    let missing = match receipt.missing.as_slice() {
        [] if receipt.nodes.is_empty() => "; there is no node".to_owned(),
        [] => String::new(),
        names => format!("; not heard from: {}", phrase::comma(names)),
    };
    format!("{} cut{where_cut}{missing}", phrase::count(flows, "live flow"))
}

/// When something ends that lasts so long from now on: by the API's clock, since by that it will be ended.
pub(crate) async fn end(client: &Client, ttl: Option<Lifetime>) -> Result<Option<Timestamp>, Failure> {
    let Some(ttl) = ttl else { return Ok(None) };
    let now = client.status().await?.now;
    let end =
        now.after(ttl.0).ok_or_else(|| Failure::new(Exit::Usage, "--ttl: it ends in no year that can be written"))?;
    Ok(Some(end))
}

#[cfg(test)]
mod tests {
    use policy_api::model::NodeReceipt;

    use super::*;

    #[test]
    fn a_receipt_says_how_many_where_and_who_was_not_heard_from() {
        let name = |text: &str| text.parse().expect("a name");
        let node = |text: &str, flows| NodeReceipt { node: name(text), flows };
        let mut receipt = Receipt { revision: Revision(7), flows: 0, nodes: vec![], missing: vec![] };
        assert_eq!(line(&receipt), "0 live flows cut; there is no node");
        receipt.nodes = vec![node("n1", 0), node("n2", 0)];
        assert_eq!(line(&receipt), "0 live flows cut");
        receipt.nodes = vec![node("n1", 2), node("n2", 0), node("n3", 1)];
        receipt.flows = 3;
        receipt.missing = vec![name("n4")];
        assert_eq!(line(&receipt), "3 live flows cut: 2 on n1, 1 on n3; not heard from: n4");
    }
}
