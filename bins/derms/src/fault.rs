//! From an error of the client to an exit code, and one line with what to do.

use derms_client::Error;
use derms_client::proto::ProblemCode;
use derms_program::{BAD_CONFIGURATION, Failure, chain};

/// Exit code: the headend answered, and does not do it.
pub(crate) const REFUSED: u8 = 2;

/// Exit code: the headend can't be reached, does not answer in time, or can't do it now.
pub(crate) const UNREACHABLE: u8 = 3;

/// What the user is told of an error of a call.
pub(crate) fn of(error: &Error) -> Failure {
    let text = chain(error);
    let hint = hint(error, &text).map_or_else(String::new, |hint| format!("; {hint}"));
    Failure::new(code(error), format!("{}{hint}", with_code(error, text)))
}

/// The same, of a call that gives an order, when the headend may have taken it.
pub(crate) fn of_order(error: &Error, key: &str) -> Failure {
    let failure = of(error);
    let open = match error {
        Error::Transport { .. } | Error::Timeout { .. } | Error::InvalidResponse { .. } => true,
        Error::Api { status, .. } => status.is_server_error(),
        _ => false,
    };
    if !open {
        return failure;
    }
    let again = format!(
        "; it is not known whether the order was taken: give the same order again with \
         --idempotency-key {key}, which gives no second one"
    );
    Failure::new(failure.code(), format!("{}{again}", failure.line()))
}

fn code(error: &Error) -> u8 {
    match error {
        Error::InvalidRequest { .. } => BAD_CONFIGURATION,
        Error::Api { status, .. } if !status.is_server_error() => REFUSED,
        _ => UNREACHABLE,
    }
}

/// With the problem's stable code in it, which texts of the API are looked up by.
fn with_code(error: &Error, text: String) -> String {
    match error {
        Error::Api { problem, .. } => format!("{text} [{}]", crate::words::word(&problem.code)),
        _ => text,
    }
}

fn hint(error: &Error, text: &str) -> Option<&'static str> {
    match error {
        Error::Api { .. } => match error.code()? {
            ProblemCode::Unauthenticated => Some(
                "name a file with a token that the headend knows: --token-file (DERMS_TOKEN_FILE)",
            ),
            ProblemCode::Forbidden => {
                Some("it takes a token with a higher role, or for more sites")
            }
            _ => None,
        },
        Error::Connect { .. } if text.contains("certificate") => Some(
            "name the CA of the headend's certificate: --ca (DERMS_CA), and call the headend by a \
             name that is in the certificate",
        ),
        Error::Connect { .. } => Some("the address is --headend-url (DERMS_URL)"),
        Error::Transport { .. } | Error::InvalidResponse { .. } => {
            Some("a headend with TLS wants --headend-url https://…")
        }
        Error::Timeout { .. } => Some("--timeout waits longer"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use derms_client::Client;

    use super::*;

    #[tokio::test]
    async fn nobody_at_the_address_is_told_apart_from_a_refusal_with_the_flag_to_change() {
        // Port 0 takes no connection.
        let client = Client::builder("http://127.0.0.1:0".parse().unwrap());
        let error = client
            .retries(0)
            .build()
            .unwrap()
            .assets()
            .await
            .unwrap_err();
        let failure = of(&error);
        assert_eq!(failure.code(), UNREACHABLE);
        assert!(
            failure.line().contains("--headend-url (DERMS_URL)"),
            "{}",
            failure.line()
        );
        assert_eq!(of_order(&error, "k"), failure, "nothing was sent");
    }

    #[test]
    fn what_was_never_sent_is_bad_usage() {
        let error = Client::new("http://user@h".parse().unwrap()).unwrap_err();
        assert_eq!(of(&error).code(), BAD_CONFIGURATION);
    }
}
