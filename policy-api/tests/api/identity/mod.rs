//! Identity tokens: who is given which, what they are checked by, how they end, and what gatekeepers are told.

mod check;
mod gate;
mod issue;
mod keys;
mod revoke;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use policy_api::{
    client::Client,
    model::{Audience, Binding, IdentityClaims, IdentityToken, JwkSet, Target},
};

use crate::world::{World, claim};

pub(crate) const BOT: &str = "release-bot";

pub(crate) fn audience(text: &str) -> Audience {
    text.parse().expect("audience")
}

pub(crate) fn instance(text: &str) -> Target {
    text.parse().expect("instance")
}

/// A token for the release bot, of who asks.
pub(crate) async fn own_token(client: &Client) -> IdentityToken {
    client.identity_token(&audience(BOT), None, None).await.expect("a token")
}

/// What a token says, proven by published keys alone, as anybody would.
pub(crate) fn proven(keys: &JwkSet, token: &str) -> Option<IdentityClaims> {
    let header = decode_header(token).ok()?;
    let key = keys.keys.iter().find(|key| Some(key.kid.as_str()) == header.kid.as_deref())?;
    let key = DecodingKey::from_ed_components(key.x.as_str()).ok()?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[BOT]);
    decode::<IdentityClaims>(token, &key, &validation).ok().map(|decoded| decoded.claims)
}

/// `web/0` on node n1 and `web/1` on n2.
pub(crate) async fn place_two(world: &World) -> [Binding; 2] {
    let first = world.n1.claim(&claim("web", &["10.255.1.1"])).await.expect("claimed");
    let second = world.n2.claim(&claim("web", &["10.255.2.1"])).await.expect("claimed");
    let bindings = world.operator.bindings().await.expect("bindings").items;
    let of = |number: u32| bindings.iter().find(|binding| binding.instance == number).expect("placed").clone();
    [of(first.instance), of(second.instance)]
}
