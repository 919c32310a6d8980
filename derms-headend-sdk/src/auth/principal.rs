//! A proved caller.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use derms_proto::SiteId;

/// What a principal may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads everything but the audit trail, and previews orders.
    Viewer,
    /// Orders, cancels, limits and stops.
    Operator,
    /// Everything, the audit trail included.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "admin" => Ok(Self::Admin),
            _ => Err("write viewer, operator or admin"),
        }
    }
}

/// Who made a request, as proved to the layer that put it there.
///
/// A host with an authentication of its own inserts it as a request extension; the service takes
/// it for what the caller may do, for the audit trail (`Dispatch::principal`,
/// `AgentStatus::principal`, `GET /audit`), for rate limits and as the scope of idempotency keys.
/// It counts before a bearer token.
///
/// [`new`](Self::new) gives an admin of all sites: a host that only says who calls has decided by
/// itself what they may do. [`with_role`](Self::with_role) and [`limited_to`](Self::limited_to)
/// leave that to the headend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
    role: Role,
    sites: Option<BTreeSet<SiteId>>,
}

impl Principal {
    /// A caller of this name, an admin of all sites.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            role: Role::Admin,
            sites: None,
        }
    }

    /// The same with this role.
    #[must_use]
    pub const fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// The same, limited to these sites and their assets. No site at all means that it sees none.
    #[must_use]
    pub fn limited_to(mut self, sites: impl IntoIterator<Item = SiteId>) -> Self {
        self.sites = Some(sites.into_iter().collect());
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The sites it is limited to; `None` = all.
    #[must_use]
    pub const fn sites(&self) -> Option<&BTreeSet<SiteId>> {
        self.sites.as_ref()
    }

    /// Whether it may see this site.
    #[must_use]
    pub fn covers(&self, site: SiteId) -> bool {
        self.sites
            .as_ref()
            .is_none_or(|sites| sites.contains(&site))
    }
}

#[cfg(test)]
mod tests {
    use derms_proto::SiteId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_principal_that_only_has_a_name_may_do_everything_and_one_limited_to_nothing_sees_nothing()
    {
        let site = SiteId::new(Uuid::from_u128(1));
        let principal = Principal::new("host");
        assert!(principal.role() == Role::Admin && principal.covers(site));
        let principal = principal.with_role(Role::Viewer).limited_to([]);
        assert!(principal.role() == Role::Viewer && !principal.covers(site));
    }

    #[test]
    fn a_role_reads_back_as_it_is_written() {
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
