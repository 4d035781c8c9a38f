//! The oldest version of TLS that browsers may use.

/// A version of TLS.
#[expect(missing_docs, reason = "the names are those of the versions")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsVersion {
    #[default]
    V1_2,
    V1_3,
}

pub(super) const NAMES: &[(&str, TlsVersion)] =
    &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
