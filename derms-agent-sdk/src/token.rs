//! The secret by which a headend knows an agent that has no certificate.

use std::io;
use std::path::{Path, PathBuf};

use tonic::metadata::AsciiMetadataValue;

/// Why a token can't be used. Nothing of it is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("can't read the token in `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` holds no token; write one line of letters and digits", path.display())]
    Content { path: PathBuf },
}

/// What goes into `authorization`, from a file with the token and nothing else.
pub(crate) fn authorization(path: &Path) -> Result<AsciiMetadataValue, TokenError> {
    let content = || TokenError::Content {
        path: path.to_owned(),
    };
    let text = std::fs::read_to_string(path).map_err(|source| TokenError::Read {
        path: path.to_owned(),
        source,
    })?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(content());
    }
    let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(|_| content())?;
    // Not in logs of the transport, and not in a compression table of HTTP/2.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_one_line_of_its_file_and_is_not_shown() {
        let path = std::env::temp_dir().join(format!("derms-token-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "s3cret\n").unwrap();
        let value = authorization(&path).unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer s3cret");
        assert!(!format!("{value:?}").contains("s3cret"));
        for text in ["", " \n", "s3cret two", "s3cret\nagain", "sécret"] {
            std::fs::write(&path, text).unwrap();
            let error = authorization(&path).unwrap_err().to_string();
            assert!(
                error.contains("holds no token") && !error.contains("cret"),
                "{error}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(
            authorization(&path)
                .unwrap_err()
                .to_string()
                .contains("can't read")
        );
    }
}
