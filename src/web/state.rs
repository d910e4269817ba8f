//! What the handlers share.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::WebConfig;
use super::accounts::AccountError;
use super::auth::Auth;

/// The server as the web face sees it. Clones share it.
#[derive(Debug, Clone)]
pub struct App {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: WebConfig,
    auth: Arc<Auth>,
    stop: CancellationToken,
}

impl App {
    /// Opens accounts and sessions in the state directory.
    pub fn new(
        config: WebConfig,
        state_dir: &Path,
        stop: CancellationToken,
    ) -> Result<Self, AccountError> {
        let auth = Arc::new(Auth::open(state_dir, config.session)?);
        Ok(Self {
            shared: Arc::new(Shared { config, auth, stop }),
        })
    }

    pub(super) fn config(&self) -> &WebConfig {
        &self.shared.config
    }

    pub(super) fn auth(&self) -> &Arc<Auth> {
        &self.shared.auth
    }

    /// Cancelled when the server stops; streams end with it.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}
