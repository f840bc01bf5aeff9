//! The main job, on the real kernel: the very story that `cargo xtask demo` tells.

use tests::story::{Cast, Telling, play};
use tests::world::scenario;

#[test]
fn one_rule_opens_closes_and_is_beaten_by_a_deny_on_the_real_kernel() {
    scenario(Cast::plan(), |world| {
        let cast = Cast::attach(world)?;
        play(world, &cast, &mut |telling| match telling {
            Telling::Chapter { number, chapter } => println!("{number}. {}", chapter.title),
            Telling::Command(invocation) => println!("{invocation}"),
            Telling::Finding(text) => println!("{text}"),
        })
    });
}
