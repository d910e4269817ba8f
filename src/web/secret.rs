//! Random secrets and what is kept of them: the secret goes to its owner, its SHA-256 stays here.

use sha2::{Digest, Sha256};

/// The system gave no random bytes; nothing secret can be made without them.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a secret: the system gives no random bytes: {0}")]
pub struct NoRandom(#[from] getrandom::Error);

/// A new secret of 256 bits as hexadecimal digits.
pub(super) fn random() -> Result<String, NoRandom> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// What is stored of a secret. No salt is needed: a secret of 256 random bits cannot be guessed.
pub(super) fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_long() {
        let (a, b) = (random().unwrap(), random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 64);
        assert_ne!(digest(&a), a);
    }
}
