//! What a worker writes for another worker and has carried by a gateway: sealed with the fleet's key.
//!
//! Owns the seal's form: a code (HMAC with SHA-256) in front of what it is for. What is sealed can be read by whoever
//! carries it, and be changed by nobody. The code is made over a prefix that no passport can begin with, so that
//! neither can ever be taken for the other.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

use super::passport::PassportKeys;

/// What the code is made over, in front of the content. A passport begins with Base64.
const DOMAIN: &[u8] = b"\0flotilla state\0";

/// Length of the code, in bytes.
const CODE_BYTES: usize = 32;

/// What is not sealed with one of the fleet's keys, or not as it was when it was: it must not be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not sealed by this fleet")]
pub struct Unsealed;

impl PassportKeys {
    /// Seals `content` with the current key. Empty, and no seal, if the library cannot make one, which it always can.
    #[must_use]
    pub fn seal(&self, content: &[u8]) -> Bytes {
        let key = EncodingKey::from_secret(self.signing.expose().as_bytes());
        let code = crypto::sign(&message(content), &key, Algorithm::HS256).ok();
        let code = code.and_then(|code| URL_SAFE_NO_PAD.decode(code).ok());
        code.map(|code| Bytes::from([&code, content].concat()))
            .unwrap_or_default()
    }

    /// What was sealed with the current key, or the one before it.
    ///
    /// # Errors
    /// When it was not.
    pub fn unseal(&self, sealed: &Bytes) -> Result<Bytes, Unsealed> {
        let (code, content) = sealed.split_at_checked(CODE_BYTES).ok_or(Unsealed)?;
        let (code, message) = (URL_SAFE_NO_PAD.encode(code), message(content));
        // The library compares in constant time.
        let is_sealed = self.accepted.iter().any(|key| {
            crypto::verify(&code, &message, key.decoding(), Algorithm::HS256).unwrap_or(false)
        });
        is_sealed
            .then(|| sealed.slice(CODE_BYTES..))
            .ok_or(Unsealed)
    }
}

fn message(content: &[u8]) -> Vec<u8> {
    [DOMAIN, content].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::{Passport, jwt};
    use crate::secret::Secret;

    fn secret(filler: char) -> Secret {
        Secret::new(filler.to_string().repeat(32))
    }

    fn keys(current: char, previous: Option<char>) -> PassportKeys {
        let previous = previous.map(secret);
        PassportKeys::new(secret(current), previous.as_ref()).unwrap()
    }

    #[test]
    fn what_was_sealed_is_read_while_its_key_is_known() {
        let sealed = keys('a', None).seal(b"state");
        for (current, previous) in [('a', None), ('b', Some('a')), ('a', Some('b'))] {
            let content = keys(current, previous).unseal(&sealed);
            assert_eq!(content, Ok(Bytes::from_static(b"state")));
        }
        assert_eq!(keys('b', None).unseal(&sealed), Err(Unsealed));
        assert_eq!(keys('b', Some('c')).unseal(&sealed), Err(Unsealed));
    }

    #[test]
    fn noise_is_not_sealed() {
        for noise in [&b""[..], b"x", &[0; CODE_BYTES], &[0; 2 * CODE_BYTES]] {
            let noise = Bytes::copy_from_slice(noise);
            assert_eq!(keys('a', None).unseal(&noise), Err(Unsealed));
        }
    }

    #[test]
    fn a_passport_s_signature_seals_nothing() {
        let signed = keys('a', None).sign(&Passport::default(), 1).unwrap();
        let (content, code) = signed.rsplit_once('.').unwrap();
        let code = URL_SAFE_NO_PAD.decode(code).unwrap();
        let forged = Bytes::from([&code, content.as_bytes()].concat());
        assert_eq!(keys('a', None).unseal(&forged), Err(Unsealed));
        let token = jwt::sign(&"state", &secret('a')).unwrap();
        assert_eq!(keys('a', None).unseal(&token.into()), Err(Unsealed));
    }

    proptest! {
        #[test]
        fn nothing_is_changed_behind_a_seal(
            content in prop::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let keys = keys('a', None);
            let sealed = keys.seal(&content);
            prop_assert_eq!(keys.unseal(&sealed), Ok(content.into()));
            let mut changed = sealed.to_vec();
            let at = at.index(changed.len());
            changed[at] ^= 1_u8 << bit;
            prop_assert_eq!(keys.unseal(&changed.into()), Err(Unsealed));
            let shorter = sealed.slice(..sealed.len() - 1);
            prop_assert_eq!(keys.unseal(&shorter), Err(Unsealed));
        }
    }
}
