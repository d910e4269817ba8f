//! Ed25519 signatures in OpenSSH's own form, so that `ssh-keygen -Y verify` checks evidence
//! without us (OpenSSH's PROTOCOL.sshsig).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256, Sha512};

use super::durable;
use crate::error::{IoContext, IoError};
use crate::recorder::sync::Site;

/// What a signature is for; verifiers insist on it.
pub(super) const NAMESPACE: &str = "evidence@wirewitness";
/// The name the signer has in `allowed_signers`.
pub(super) const PRINCIPAL: &str = "wirewitness";
/// The private key in the server's state directory.
pub(super) const KEY_FILE: &str = "signing-key";
/// The public key, in the state directory and in each sealed incident.
pub(super) const PUBLIC_KEY_FILE: &str = "signing-key.pub";

const MAGIC: &[u8] = b"SSHSIG";
const KEY_TYPE: &[u8] = b"ssh-ed25519";
const HASH_NAME: &[u8] = b"sha512";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const ARMOUR_COLUMNS: usize = 70;

/// Why the signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or made.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It is not a key.
    #[error(
        "{path} does not hold a signing key (64 hex digits); restore it from a backup, or move \
         it away to have a new one made: incidents sealed before stay verifiable"
    )]
    Damaged {
        /// The file.
        path: String,
    },
    /// The system has no random numbers.
    #[error("no random numbers for a signing key: {0}")]
    Random(String),
}

/// The key that signs manifests.
pub(super) struct Signer25519(SigningKey);

impl std::fmt::Debug for Signer25519 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer25519")
    }
}

impl Signer25519 {
    /// The key of the state directory, made (readable by its owner alone) when there is none. Its name
    /// becomes durable with that of the journal beside it, before anything is signed.
    pub(super) fn open(state_dir: &Path) -> Result<Self, KeyError> {
        let path = state_dir.join(KEY_FILE);
        let key = match fs::read_to_string(&path) {
            Ok(text) => {
                let mut seed = [0; 32];
                hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| KeyError::Damaged {
                    path: path.display().to_string(),
                })?;
                let mode = fs::metadata(&path).at("stat", &path)?.permissions().mode();
                if mode & 0o077 != 0 {
                    tracing::warn!(path = %path.display(), "the signing key is readable by others: chmod 600 it");
                }
                Self(SigningKey::from_bytes(&seed))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|error| KeyError::Random(error.to_string()))?;
                let text = format!("{}\n", hex::encode(seed));
                durable::put(&path, text.as_bytes(), 0o600, Site::KeyData)?;
                Self(SigningKey::from_bytes(&seed))
            }
            Err(error) => return Err(IoError::new("read", &path, error).into()),
        };
        let public = state_dir.join(PUBLIC_KEY_FILE);
        let line = key.public().line();
        if fs::read_to_string(&public).ok().as_deref() != Some(&line) {
            durable::put(&public, line.as_bytes(), 0o644, Site::KeyData)?;
        }
        Ok(key)
    }

    /// Its public half.
    pub(super) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// An armoured signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        let signature = self.0.sign(&signed_data(message));
        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&1_u32.to_be_bytes());
        string(&mut blob, &self.public().blob());
        string(&mut blob, NAMESPACE.as_bytes());
        string(&mut blob, b"");
        string(&mut blob, HASH_NAME);
        let mut inner = Vec::new();
        string(&mut inner, KEY_TYPE);
        string(&mut inner, &signature.to_bytes());
        string(&mut blob, &inner);
        armour(&blob)
    }
}

/// A public key in OpenSSH's forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey(VerifyingKey);

impl PublicKey {
    /// `signing-key.pub`.
    pub(super) fn line(&self) -> String {
        format!("{}\n", self.text())
    }

    /// The line for `allowed_signers`.
    pub(super) fn allowed_signers(&self) -> String {
        format!(
            "{PRINCIPAL} namespaces=\"{NAMESPACE}\" ssh-ed25519 {}\n",
            Base64::encode_string(&self.blob())
        )
    }

    /// As `ssh-keygen -l` shows it: `SHA256:...`.
    pub(super) fn fingerprint(&self) -> String {
        let digest = Base64::encode_string(&Sha256::digest(self.blob()));
        format!("SHA256:{}", digest.trim_end_matches('='))
    }

    fn text(&self) -> String {
        format!(
            "ssh-ed25519 {} {PRINCIPAL}",
            Base64::encode_string(&self.blob())
        )
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        string(&mut blob, KEY_TYPE);
        string(&mut blob, self.0.as_bytes());
        blob
    }
}

/// Checks an armoured signature; returns the key that made it, or what is wrong.
pub(super) fn check(armoured: &str, message: &[u8]) -> Result<PublicKey, String> {
    let blob = unarmour(armoured).ok_or("it is not an armoured SSH signature")?;
    let parts = parts(&blob).ok_or("it is not an SSHSIG of version 1 with an ed25519 key")?;
    if parts.namespace != NAMESPACE.as_bytes() {
        return Err(format!("it was not made for {NAMESPACE}"));
    }
    if parts.hash != HASH_NAME || !parts.reserved.is_empty() {
        return Err("it uses another hash than sha512".to_owned());
    }
    let key = VerifyingKey::from_bytes(parts.key).map_err(|_| "its key is not valid".to_owned())?;
    key.verify_strict(
        &signed_data(message),
        &Signature::from_bytes(parts.signature),
    )
    .map_err(|_| "it does not match".to_owned())?;
    // One text per signature: bytes a reader would skip over are an alteration too.
    if armour(&blob) != armoured {
        return Err("its armour was altered".to_owned());
    }
    Ok(PublicKey(key))
}

struct Parts<'a> {
    key: &'a [u8; 32],
    namespace: &'a [u8],
    reserved: &'a [u8],
    hash: &'a [u8],
    signature: &'a [u8; 64],
}

fn parts(blob: &[u8]) -> Option<Parts<'_>> {
    let mut rest = blob
        .strip_prefix(MAGIC)?
        .strip_prefix(&1_u32.to_be_bytes())?;
    let mut key = take(&mut rest)?;
    let namespace = take(&mut rest)?;
    let reserved = take(&mut rest)?;
    let hash = take(&mut rest)?;
    let mut signature = take(&mut rest)?;
    (take(&mut key)? == KEY_TYPE && take(&mut signature)? == KEY_TYPE && rest.is_empty())
        .then_some(())?;
    let parts = Parts {
        key: take(&mut key)?.try_into().ok()?,
        namespace,
        reserved,
        hash,
        signature: take(&mut signature)?.try_into().ok()?,
    };
    (key.is_empty() && signature.is_empty()).then_some(parts)
}

/// What is signed: not the message itself but its hash, bound to the namespace.
fn signed_data(message: &[u8]) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    string(&mut data, NAMESPACE.as_bytes());
    string(&mut data, b"");
    string(&mut data, HASH_NAME);
    string(&mut data, &Sha512::digest(message));
    data
}

/// Appends an SSH string: its length in four bytes, then its bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (bytes, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

fn armour(blob: &[u8]) -> String {
    let text = Base64::encode_string(blob);
    let mut out = format!("{BEGIN}\n");
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % ARMOUR_COLUMNS == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push('\n');
    out.push_str(END);
    out.push('\n');
    out
}

fn unarmour(text: &str) -> Option<Vec<u8>> {
    let body = text.strip_prefix(BEGIN)?.trim_end().strip_suffix(END)?;
    let joined: String = body.split_whitespace().collect();
    Base64::decode_vec(&joined).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn ssh_keygen_accepts_what_we_sign_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let key = Signer25519::open(dir.path()).unwrap();
        let signature = key.sign(b"the manifest");
        fs::write(dir.path().join("sig"), &signature).unwrap();
        fs::write(dir.path().join("allowed"), key.public().allowed_signers()).unwrap();
        let verify = |message: &[u8]| {
            fs::write(dir.path().join("message"), message).unwrap();
            Command::new("ssh-keygen")
                .args(["-Y", "verify", "-f", "allowed", "-I", PRINCIPAL])
                .args(["-n", NAMESPACE, "-s", "sig"])
                .current_dir(dir.path())
                .stdin(fs::File::open(dir.path().join("message")).unwrap())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        };
        assert!(verify(b"the manifest"));
        assert!(!verify(b"the manifesto"));
        assert_eq!(check(&signature, b"the manifest"), Ok(key.public()));
        assert!(check(&signature, b"the manifesto").is_err());
    }

    #[test]
    fn ssh_keygen_agrees_about_the_public_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = Signer25519::open(dir.path()).unwrap();
        let shown = Command::new("ssh-keygen")
            .args(["-l", "-f"])
            .arg(dir.path().join(PUBLIC_KEY_FILE))
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&key.public().fingerprint()), "{shown}");
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Signer25519::open(dir.path()).unwrap().public();
        let second = Signer25519::open(dir.path()).unwrap().public();
        assert_eq!(first, second);
        let mode = fs::metadata(dir.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn any_flipped_byte_of_the_signature_is_caught() {
        let dir = tempfile::tempdir().unwrap();
        let key = Signer25519::open(dir.path()).unwrap();
        let good = key.sign(b"m");
        for index in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[index] ^= 1;
            let bad = String::from_utf8(bad).unwrap();
            assert!(check(&bad, b"m").is_err(), "byte {index}");
        }
    }
}
