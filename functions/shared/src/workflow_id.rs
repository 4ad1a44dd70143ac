use serde::{Deserialize, Serialize};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};
use uuid::Uuid;

/// Names a workflow from the answer to its POST to the end of its execution, whose name it is.
///
/// A UUID in its canonical form (lower case, hyphens: RFC 9562 section 4), so that one workflow has one spelling and
/// the spelling is a valid execution name. The API mints version 7, or derives version 8 from an idempotency key; a
/// direct invocation of the trigger brings the request id of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkflowId(Uuid);

/// The text is no UUID in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a workflow id is a UUID in lower case, as in 019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d")]
pub struct InvalidWorkflowId;

impl WorkflowId {
    /// A new id, made of the time and 74 random bits (UUID version 7, RFC 9562 section 5.7).
    #[must_use]
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that a digest determines (UUID version 8, RFC 9562 section 5.8), of which it keeps the first 16 bytes
    /// but for the 6 bits that a UUID sets itself.
    #[must_use]
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(Uuid::new_v8(bytes))
    }

    /// Whether a key determined the id (see [`WorkflowId::from_digest`]).
    #[must_use]
    pub fn is_from_digest(&self) -> bool {
        self.0.get_version() == Some(uuid::Version::Custom)
    }

    /// When the id was minted, to the millisecond; `None` for an id of another version, which carries no time.
    #[must_use]
    pub fn minted_at(&self) -> Option<SystemTime> {
        if self.0.get_version() != Some(uuid::Version::SortRand) {
            return None;
        }
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds))
    }
}

impl FromStr for WorkflowId {
    type Err = InvalidWorkflowId;

    fn from_str(text: &str) -> Result<Self, InvalidWorkflowId> {
        let id = Self(Uuid::try_parse(text).map_err(|_| InvalidWorkflowId)?);
        if id.to_string() == text { Ok(id) } else { Err(InvalidWorkflowId) }
    }
}

impl TryFrom<String> for WorkflowId {
    type Error = InvalidWorkflowId;

    fn try_from(text: String) -> Result<Self, InvalidWorkflowId> {
        text.parse()
    }
}

impl From<WorkflowId> for String {
    fn from(id: WorkflowId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_id_reads_back_and_knows_its_time() {
        let before = SystemTime::now() - Duration::from_millis(1);
        let id = WorkflowId::mint();
        assert_eq!(id.to_string().parse(), Ok(id));
        let minted = id.minted_at().expect("version 7 carries a time");
        assert!(before <= minted && minted <= SystemTime::now());
    }

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        for text in [
            "",
            "not-an-id",
            "019AB0C1-5A70-7C3E-9A51-6D1C0B3F2E4D",
            "019ab0c15a707c3e9a516d1c0b3f2e4d",
            "{019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d}",
            "urn:uuid:019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d",
        ] {
            assert_eq!(text.parse::<WorkflowId>(), Err(InvalidWorkflowId), "{text}");
        }
    }

    #[test]
    fn a_digest_determines_its_id() {
        let id = WorkflowId::from_digest(&[0xff; 32]);
        assert_eq!(id.to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
        assert!(id.is_from_digest() && id.minted_at().is_none() && !WorkflowId::mint().is_from_digest());
    }

    #[test]
    fn an_id_of_another_version_has_no_time() {
        let id: WorkflowId = "5c3b1c2e-8f0a-4b7e-9d6a-1f2e3d4c5b6a".parse().expect("a UUID version 4");
        assert_eq!(id.minted_at(), None);
    }
}
