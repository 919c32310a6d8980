//! Who is calling.

/// Who made a request, as proved to the layer that put it there.
///
/// A host with an authentication of its own inserts it as a request extension; the service takes
/// it for the audit trail (`Dispatch::principal`, `AgentStatus::principal`) and as the scope of
/// idempotency keys. Without one, requests are anonymous.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
}

impl Principal {
    /// A caller of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
