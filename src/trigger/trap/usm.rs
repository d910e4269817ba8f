//! The user-based security model of SNMPv3: RFC 3414 (MD5, SHA-1, DES), RFC 7860 (SHA-2), RFC 3826
//! (AES-128).

use aes::Aes128;
use cfb_mode::{Decryptor, Encryptor};
use des::Des;
use des::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, KeyIvInit};
use hmac::digest::Digest;
use hmac::{Hmac, Mac};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

/// Bytes of repeated password that a key is made of (RFC 3414, A.2).
const STRETCHED_BYTES: usize = 1 << 20;
/// The shortest password (RFC 3414, 11.2).
pub(super) const PASSWORD_BYTES_MIN: usize = 8;

/// How messages are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// HMAC-MD5-96.
    Md5,
    /// HMAC-SHA-96.
    Sha,
    /// HMAC-SHA-224-128.
    Sha224,
    /// HMAC-SHA-256-192.
    Sha256,
    /// HMAC-SHA-384-256.
    Sha384,
    /// HMAC-SHA-512-384.
    Sha512,
}

/// How messages are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priv {
    /// CBC-DES.
    Des,
    /// CFB128-AES-128.
    Aes,
}

impl Auth {
    /// Bytes of the digest in a message.
    pub(super) const fn mac_bytes(self) -> usize {
        match self {
            Self::Md5 | Self::Sha => 12,
            Self::Sha224 => 16,
            Self::Sha256 => 24,
            Self::Sha384 => 32,
            Self::Sha512 => 48,
        }
    }

    fn hash(self, parts: &[&[u8]]) -> Vec<u8> {
        fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            for part in parts {
                digest.update(part);
            }
            digest.finalize().to_vec()
        }
        match self {
            Self::Md5 => digest::<Md5>(parts),
            Self::Sha => digest::<Sha1>(parts),
            Self::Sha224 => digest::<Sha224>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha384 => digest::<Sha384>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
        }
    }

    /// The key of a password, before it is made an engine's.
    pub(super) fn stretch(self, password: &str) -> Vec<u8> {
        let repeated: Vec<u8> = password.bytes().cycle().take(STRETCHED_BYTES).collect();
        self.hash(&[&repeated])
    }

    /// The key of one engine.
    pub(super) fn localise(self, key: &[u8], engine: &[u8]) -> Vec<u8> {
        self.hash(&[key, engine, key])
    }

    /// The digest that goes into a message.
    pub(super) fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        macro_rules! with {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(key)
                    .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
                    .unwrap_or_default()
            };
        }
        let mut mac = match self {
            Self::Md5 => with!(Md5),
            Self::Sha => with!(Sha1),
            Self::Sha224 => with!(Sha224),
            Self::Sha256 => with!(Sha256),
            Self::Sha384 => with!(Sha384),
            Self::Sha512 => with!(Sha512),
        };
        mac.truncate(self.mac_bytes());
        mac
    }

    /// Whether `shown` is the message's digest.
    pub(super) fn is_mac(self, key: &[u8], message: &[u8], shown: &[u8]) -> bool {
        let mac = self.mac(key, message);
        mac.len() == self.mac_bytes() && mac.as_slice().ct_eq(shown).into()
    }
}

impl Priv {
    /// Decrypts in place. `false`: the bytes cannot be of this cipher.
    pub(super) fn decrypt(
        self,
        key: &[u8],
        (boots, time): (u32, u32),
        salt: &[u8],
        bytes: &mut [u8],
    ) -> bool {
        let Ok(salt) = <[u8; 8]>::try_from(salt) else {
            return false;
        };
        match self {
            Self::Aes => {
                let iv = aes_iv(boots, time, salt);
                let Some(key) = key.get(..16) else {
                    return false;
                };
                Decryptor::<Aes128>::new_from_slices(key, &iv)
                    .map(|cipher| cipher.decrypt(bytes))
                    .is_ok()
            }
            Self::Des => match des(key, salt) {
                Some((cipher, iv)) if bytes.len().is_multiple_of(8) => {
                    des_decrypt(&cipher, iv, bytes);
                    true
                }
                _ => false,
            },
        }
    }

    /// Encrypts in place; DES pads.
    pub(super) fn encrypt(
        self,
        key: &[u8],
        (boots, time): (u32, u32),
        salt: [u8; 8],
        bytes: &mut Vec<u8>,
    ) {
        match self {
            Self::Aes => {
                let iv = aes_iv(boots, time, salt);
                if let Some(key) = key.get(..16)
                    && let Ok(cipher) = Encryptor::<Aes128>::new_from_slices(key, &iv)
                {
                    cipher.encrypt(bytes);
                }
            }
            Self::Des => {
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                if let Some((cipher, iv)) = des(key, salt) {
                    des_encrypt(&cipher, iv, bytes);
                }
            }
        }
    }
}

fn aes_iv(boots: u32, time: u32, salt: [u8; 8]) -> [u8; 16] {
    let mut iv = [0; 16];
    let parts = boots
        .to_be_bytes()
        .into_iter()
        .chain(time.to_be_bytes())
        .chain(salt);
    for (byte, part) in iv.iter_mut().zip(parts) {
        *byte = part;
    }
    iv
}

/// The cipher of the key's first half; the second, with the salt, is the initial vector.
fn des(key: &[u8], salt: [u8; 8]) -> Option<(Des, [u8; 8])> {
    let cipher = Des::new_from_slice(key.get(..8)?).ok()?;
    let mut iv: [u8; 8] = key.get(8..16)?.try_into().ok()?;
    for (byte, salt) in iv.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    Some((cipher, iv))
}

fn des_decrypt(cipher: &Des, iv: [u8; 8], bytes: &mut [u8]) {
    let mut before = iv;
    for chunk in bytes.as_chunks_mut::<8>().0 {
        let encrypted = *chunk;
        let mut block = Array::from(encrypted);
        cipher.decrypt_block(&mut block);
        for ((byte, plain), mask) in chunk.iter_mut().zip(block).zip(before) {
            *byte = plain ^ mask;
        }
        before = encrypted;
    }
}

fn des_encrypt(cipher: &Des, iv: [u8; 8], bytes: &mut [u8]) {
    let mut before = iv;
    for chunk in bytes.as_chunks_mut::<8>().0 {
        for (byte, mask) in chunk.iter_mut().zip(before) {
            *byte ^= mask;
        }
        let mut block = Array::from(*chunk);
        cipher.encrypt_block(&mut block);
        *chunk = block.into();
        before = *chunk;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3414, A.3: the keys of "maplesyrup" on the engine 0...02.
    #[test]
    fn the_keys_of_the_standard() {
        let engine = hex::decode("000000000000000000000002").unwrap();
        for (auth, stretched, localised) in [
            (
                Auth::Md5,
                "9faf3283884e92834ebc9847d8edd963",
                "526f5eed9fcce26f8964c2930787d82b",
            ),
            (
                Auth::Sha,
                "9fb5cc0381497b3793528939ff788d5d79145211",
                "6695febc9288e36282235fc7151f128497b38f3f",
            ),
        ] {
            let key = auth.stretch("maplesyrup");
            assert_eq!(hex::encode(&key), stretched);
            assert_eq!(hex::encode(auth.localise(&key, &engine)), localised);
        }
    }

    #[test]
    fn what_is_encrypted_comes_back() {
        let key: Vec<u8> = (0..32).collect();
        for cipher in [Priv::Des, Priv::Aes] {
            let plain = b"scoped PDU of 24 bytes..".to_vec();
            let mut bytes = plain.clone();
            cipher.encrypt(&key, (3, 4), [7; 8], &mut bytes);
            assert_ne!(bytes, plain);
            assert!(cipher.decrypt(&key, (3, 4), &[7; 8], &mut bytes));
            assert_eq!(bytes, plain);
            assert!(!cipher.decrypt(&key, (3, 4), &[7; 7], &mut bytes));
        }
        assert!(!Priv::Des.decrypt(&key, (0, 0), &[0; 8], &mut [0; 9]));
        assert!(!Priv::Aes.decrypt(&[0; 3], (0, 0), &[0; 8], &mut [0; 8]));
    }
}
