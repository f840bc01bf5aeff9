//! Numbers that are given out ascending, and given out again only after they ran out, when nobody can remember what they stood
//! for: identities of apps, slices of nodes.

use std::{collections::BTreeSet, ops::Range};

use serde::{Deserialize, Serialize};

use crate::model::Revision;

/// The numbers that were given back last, and by which revision. Of older ones it is known that they are older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u32, Revision)>", into = "Vec<(u32, Revision)>")]
pub(super) struct Resting {
    /// Oldest first.
    last: [(u32, Revision); Self::MOST],
    count: usize,
}

impl Resting {
    /// Few, as they are written with each revision; enough that numbers rest no longer than they must where apps come and go.
    const MOST: usize = 16;

    /// Notes that a number was given back.
    pub(super) fn rest(&mut self, number: u32, revision: Revision) {
        if self.count == Self::MOST {
            self.last.rotate_left(1);
            self.count -= 1;
        }
        self.last[self.count] = (number, revision);
        self.count += 1;
    }

    /// The revision since which nobody has had a number that nobody has now; at the latest.
    fn since(&self, number: u32) -> Revision {
        let known = &self.last[..self.count];
        let given_back = known.iter().rev().find(|(given_back, _)| *given_back == number);
        let older = known.first().filter(|_| self.count == Self::MOST);
        given_back.or(older).map_or(Revision::default(), |(_, revision)| *revision)
    }

    /// The first number from `from` on, and then from the beginning, that nobody has and that no node can remember: each
    /// registered one has `acknowledged` what came after.
    pub(super) fn rested(
        &self,
        numbers: Range<u32>,
        from: u32,
        taken: &BTreeSet<u32>,
        acknowledged: Option<Revision>,
    ) -> Option<u32> {
        let acknowledged = acknowledged?;
        let from = from.clamp(numbers.start, numbers.end);
        let mut candidates = (from..numbers.end).chain(numbers.start..from);
        candidates.find(|number| !taken.contains(number) && self.since(*number) <= acknowledged)
    }
}

impl From<Vec<(u32, Revision)>> for Resting {
    fn from(list: Vec<(u32, Revision)>) -> Self {
        let mut resting = Self::default();
        list.into_iter().for_each(|(number, revision)| resting.rest(number, revision));
        resting
    }
}

impl From<Resting> for Vec<(u32, Revision)> {
    fn from(resting: Resting) -> Self {
        resting.last[..resting.count].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_until_every_node_has_forgotten_it() {
        let mut resting = Resting::default();
        let taken = BTreeSet::from([1, 2, 4]);
        resting.rest(3, Revision(7));
        resting.rest(5, Revision(9));
        let free = |from, acknowledged| resting.rested(1..6, from, &taken, acknowledged);
        assert_eq!(free(1, None), None, "a node that never said anything may remember all of them");
        assert_eq!(free(1, Some(Revision(6))), None);
        assert_eq!(free(1, Some(Revision(7))), Some(3));
        assert_eq!(free(4, Some(Revision(8))), Some(3), "from the beginning again");
        assert_eq!(free(4, Some(Revision(9))), Some(5));
    }

    #[test]
    fn what_fell_out_of_memory_rests_as_long_as_the_oldest_that_did_not() {
        let mut resting = Resting::default();
        (1..=20).for_each(|number| resting.rest(number, Revision(100 + u64::from(number))));
        let oldest = Revision(105);
        assert_eq!(resting.since(1), oldest);
        assert_eq!(resting.since(5), oldest);
        assert_eq!(resting.since(6), Revision(106));
        let written = serde_json::to_string(&resting).expect("json");
        assert_eq!(serde_json::from_str::<Resting>(&written).expect("read"), resting);
    }

    #[test]
    fn a_number_that_was_given_back_twice_rests_since_the_last_time() {
        let mut resting = Resting::default();
        resting.rest(3, Revision(7));
        resting.rest(3, Revision(20));
        assert_eq!(resting.since(3), Revision(20));
    }
}
