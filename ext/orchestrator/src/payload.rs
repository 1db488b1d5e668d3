//! What PostgreSQL can store of a payload: an input or a result as JSON text.
//!
//! Invariant: one pass over the text, no value is built; this is on the path of every step. Neighbours: `workflow`
//! checks inputs, `orchestrator` results. Text that is no JSON at all is found where it is parsed.

use std::fmt;

use crate::configuration::Limits;

/// Why a payload cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadProblem {
    TooLarge {
        bytes: usize,
        limit: usize,
    },
    TooDeep {
        limit: usize,
    },
    /// jsonb has no null character.
    NullCharacter {
        offset: usize,
    },
    NotAnObject,
}

impl fmt::Display for PayloadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, limit } => write!(
                f,
                "has {bytes} bytes of JSON, and limits.payload_bytes is {limit}: store the data elsewhere and pass a reference"
            ),
            Self::TooDeep { limit } => {
                write!(f, "is nested more than {limit} deep (limits.payload_depth): make it flatter")
            }
            Self::NullCharacter { offset } => write!(
                f,
                "has a null character (\\u0000) at byte {offset}, which PostgreSQL cannot store: remove or encode it"
            ),
            Self::NotAnObject => write!(f, "must be a JSON object"),
        }
    }
}

/// Checks size, depth and null characters of a JSON text that is an object.
///
/// # Errors
/// The first problem.
pub fn check(text: &str, limits: &Limits) -> Result<(), PayloadProblem> {
    if text.len() > limits.payload_bytes {
        return Err(PayloadProblem::TooLarge { bytes: text.len(), limit: limits.payload_bytes });
    }
    if !text.trim_start().starts_with('{') {
        return Err(PayloadProblem::NotAnObject);
    }
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut at = 0;
    while at < bytes.len() {
        match (in_string, bytes[at]) {
            (true, b'\\') => {
                if bytes[at + 1..].starts_with(b"u0000") {
                    return Err(PayloadProblem::NullCharacter { offset: at });
                }
                at += 1;
            }
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > limits.payload_depth {
                    return Err(PayloadProblem::TooDeep { limit: limits.payload_depth });
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Configuration;

    #[test]
    fn what_cannot_be_stored_is_named() {
        let limits = Limits { payload_bytes: 40, payload_depth: 3, ..Configuration::load(None).unwrap().limits };
        let deep = PayloadProblem::TooDeep { limit: 3 };
        let cases = [
            (r#"{"a":1}"#, Ok(())),
            (r#"{"a":"\\u0000"}"#, Ok(())),
            (r#"{"a":"\u0000"}"#, Err(PayloadProblem::NullCharacter { offset: 6 })),
            (r#"{"a":"[[[[[{{{"}"#, Ok(())),
            (r#"{"a":"\"[[[[["}"#, Ok(())),
            (r#"{"a":[[1]]}"#, Ok(())),
            (r#"{"a":[[[1]]]}"#, Err(deep)),
            ("[]", Err(PayloadProblem::NotAnObject)),
            ("", Err(PayloadProblem::NotAnObject)),
            (
                r#"{"a":"0123456789012345678901234567890123456789"}"#,
                Err(PayloadProblem::TooLarge { bytes: 48, limit: 40 }),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text, &limits), expected, "{text}");
        }
    }
}
