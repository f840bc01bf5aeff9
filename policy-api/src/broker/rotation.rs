//! Keys come and go by the clock: the next one is made long before it signs, also where several APIs notice at once.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{error, info};

use super::{Broker, BrokerError, signer};
use crate::{
    model::{Due, SignerKey, next_key},
    store::{Command, Principal, Write},
};

/// How long at most until it is looked again: a clock may be set, and another API may do something.
const NAP: Duration = Duration::from_secs(30);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

impl Broker {
    /// Makes the next key if one is due; returns when to look again.
    pub async fn rotate(&self) -> Result<Duration, BrokerError> {
        if let Due::Now { .. } = self.due() {
            let key = signer::generate(&self.seal, self.timing.lifetime)?;
            let id = key.id.clone();
            self.store.write(Write::new(Command::RotateSigner(key), Principal::Itself)).await?;
            if self.store.read(|state| state.replica().signer_keys.contains_key(&id)) {
                info!(key = %id, "made a key of the signer");
            }
        }
        self.forget();
        Ok(match self.due() {
            Due::Now { .. } => PAUSE,
            Due::At(time) => self.now().until(time).min(NAP),
        })
    }

    fn due(&self) -> Due {
        self.store.read(|state| {
            let keys = state.replica().signer_keys.values().map(AsRef::<SignerKey>::as_ref);
            next_key(keys, self.now(), self.timing.lifetime)
        })
    }
}

/// Rotates until we stop.
pub async fn keep_rotating(broker: Arc<Broker>, mut stop: watch::Receiver<bool>) {
    loop {
        let wait = match broker.rotate().await {
            Ok(wait) => wait.max(Duration::from_millis(1)),
            Err(failure) => {
                error!(error = %failure, "cannot make the next key of the signer; trying again");
                PAUSE
            }
        };
        tokio::select! {
            () = crate::watch::stopped(&mut stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
