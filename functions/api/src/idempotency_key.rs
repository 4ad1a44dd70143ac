//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-07), and the workflow id that it determines.

use crate::ApiError;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use lambda_http::{aws_lambda_events::apigw::ApiGatewayRequestAuthorizer, request::RequestContext};
use sfv::{BareItem, Item, Parser};
use sha2::{Digest, Sha256};
use shared::WorkflowId;

/// The header.
pub(crate) const HEADER: &str = "idempotency-key";

/// The longest key, in characters.
const MAX_LENGTH: usize = 255;

/// The workflow id that a request's key determines; `None` for a request without a key.
pub(crate) struct KeyedId(pub(crate) Option<WorkflowId>);

impl<S: Sync> FromRequestParts<S> for KeyedId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let key = parse(&parts.headers)?;
        let caller = parts.extensions.get().and_then(caller);
        Ok(Self(key.map(|key| workflow_id(&key, caller.as_deref()))))
    }
}

/// The key that the headers name: 1 to 255 visible ASCII characters, as a string of RFC 8941 (section 3.3.3) or bare.
fn parse(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| ApiError::InvalidIdempotencyKey)?.trim_matches([' ', '\t']),
        (Some(_), Some(_)) => return Err(ApiError::InvalidIdempotencyKey),
    };
    let key = if value.starts_with('"') {
        match Parser::new(value).parse::<Item>() {
            Ok(Item { bare_item: BareItem::String(key), .. }) => key.as_str().to_owned(),
            _ => return Err(ApiError::InvalidIdempotencyKey),
        }
    } else {
        value.to_owned()
    };
    let is_valid = (1..=MAX_LENGTH).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid { Ok(Some(key)) } else { Err(ApiError::InvalidIdempotencyKey) }
}

/// Who calls, where API Gateway has found out: an IAM identity's ARN or a JWT's subject.
fn caller(context: &RequestContext) -> Option<String> {
    let RequestContext::ApiGatewayV2(context) = context else { return None };
    let ApiGatewayRequestAuthorizer { iam, jwt, .. } = context.authorizer.as_ref()?;
    let arn = iam.as_ref().and_then(|iam| iam.user_arn.as_ref()).map(|arn| format!("iam {arn}"));
    arn.or_else(|| jwt.as_ref().and_then(|jwt| jwt.claims.get("sub")).map(|subject| format!("jwt {subject}")))
}

/// The id that `key` determines for `caller`: 122 bits of SHA-256 as a UUID version 8 (RFC 9562 section 5.8).
///
/// A key holds neither blank nor NUL, so that no two pairs of key and caller are the same bytes.
fn workflow_id(key: &str, caller: Option<&str>) -> WorkflowId {
    let digest = Sha256::new().chain_update(key).chain_update([0]).chain_update(caller.unwrap_or_default()).finalize();
    WorkflowId::from_digest(&digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    /// What a header of these bytes gives: `Err` where it is refused.
    fn parse_bytes(value: &[u8]) -> Result<Option<String>, ()> {
        let value = HeaderValue::from_bytes(value).map_err(|_| ())?;
        parse(&HeaderMap::from_iter([(HEADER.parse().expect("a name"), value)])).map_err(|_| ())
    }

    proptest! {
        #[test]
        fn a_key_reads_the_same_bare_and_quoted(key in "[!#-~][!-~]{0,254}") {
            let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(parse_bytes(key.as_bytes()), Ok(Some(key.clone())));
            prop_assert_eq!(parse_bytes(quoted.as_bytes()), Ok(Some(key)));
        }

        #[test]
        fn what_is_read_is_a_key(value in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(key) = parse_bytes(&value) {
                let key = key.expect("there is a header");
                prop_assert!((1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn what_is_too_long_is_none(key in "[!#-~][!-~]{255,300}") {
            prop_assert_eq!(parse_bytes(key.as_bytes()), Err(()));
        }

        #[test]
        fn key_and_caller_determine_the_id(
            (key, other_key) in ("[!-~]{1,255}", "[!-~]{1,255}"),
            (caller, other_caller) in (any::<Option<String>>(), any::<Option<String>>()),
        ) {
            // An absent caller and an empty one do not both occur: `caller` names none without its kind.
            let caller = caller.map(|caller| format!("iam {caller}"));
            let other_caller = other_caller.map(|caller| format!("jwt {caller}"));
            let id = workflow_id(&key, caller.as_deref());
            prop_assert!(id.is_from_digest());
            prop_assert_eq!(id, workflow_id(&key, caller.as_deref()));
            if key != other_key {
                prop_assert_ne!(id, workflow_id(&other_key, caller.as_deref()));
            }
            if caller != other_caller {
                prop_assert_ne!(id, workflow_id(&key, other_caller.as_deref()));
            }
        }
    }
}
