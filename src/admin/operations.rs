//! Every operation of the API with the least that its caller must be, what the audit calls it, and
//! which budget it draws on. What is not in this table does not exist: denied before any handler runs.

use poem::http::Method;

/// The least a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Anyone.
    Public,
    /// Whoever is signed in, also with an invitation that is being used.
    Enrolment,
    /// Whoever is signed in with a password or a token.
    Member,
    /// Administrators.
    Administrator,
}

/// What attempts are counted against, by source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Sign-in and changes of a password.
    SignIn,
    /// The setup link.
    Setup,
    /// Opening invitations, in the portal or by EST.
    Acceptance,
    /// Renewals by certificate.
    Renewal,
}

/// How an operation stands in the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audited {
    /// What is done, for example `certificate.issue`.
    pub action: &'static str,
    /// The kind of object that the path names, if it names one.
    pub object: Option<&'static str>,
    /// Whether the first commit of the operation holds its whole effect or its intent, so that the
    /// `started` event can be part of it instead of a commit of its own before.
    pub on_commit: bool,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its name in the document.
    pub id: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path, parameters in braces.
    pub path: &'static str,
    /// The least a caller must be.
    pub access: Access,
    /// Present for everything that changes something.
    pub audited: Option<Audited>,
    /// Which budget attempts draw on.
    pub budget: Option<Budget>,
    /// The field of the answer that is a secret, delivered once.
    pub secret: Option<&'static str>,
    /// Whether a known client certificate on the connection is proof enough, at the door.
    pub by_certificate: bool,
}

impl Operation {
    /// Whether a repeated request with the same key gets the same answer.
    pub fn takes_idempotency_key(&self) -> bool {
        self.method == Method::POST && self.access != Access::Public && self.path.starts_with("/api/")
    }
}

/// What the table says about a method and a path.
#[derive(Clone, Debug)]
pub enum Found {
    /// The operation, and the value of the path's parameter.
    Operation(&'static Operation, Option<String>),
    /// The path is there; these methods are.
    OtherMethods(String),
    /// Nothing of that path.
    Nothing,
}

/// Looks an operation up in `table`. Literal segments win over parameters.
pub fn find(table: &'static [Operation], method: &Method, path: &str) -> Found {
    let mut fitting: Vec<(&'static Operation, Option<String>)> = table
        .iter()
        .filter_map(|operation| matches(operation.path, path).map(|parameter| (operation, parameter)))
        .collect();
    fitting.sort_by_key(|(_, parameter)| parameter.is_some());
    // HEAD is GET without the body (RFC 9110 §9.3.2).
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    if let Some(at) = fitting.iter().position(|(operation, _)| operation.method == *wanted) {
        let (operation, parameter) = fitting.swap_remove(at);
        return Found::Operation(operation, parameter);
    }
    if fitting.is_empty() {
        return Found::Nothing;
    }
    let allow: Vec<_> = fitting.iter().map(|(operation, _)| operation.method.as_str()).collect();
    Found::OtherMethods(allow.join(", "))
}

/// `Some` when `path` fits `template`, with the value of the template's only parameter.
fn matches(template: &str, path: &str) -> Option<Option<String>> {
    // Most of the table is passed over here.
    match template.find('{') {
        None => return (template == path).then_some(None),
        Some(at) if path.as_bytes().get(..at) != Some(&template.as_bytes()[..at]) => return None,
        Some(_) => {}
    }
    let mut parameter = None;
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parameter),
            (Some(name), Some(value)) if name.starts_with('{') => {
                if value.is_empty() {
                    return None;
                }
                parameter =
                    Some(percent_encoding::percent_decode_str(value).decode_utf8().ok()?.into_owned());
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

macro_rules! operations {
    ($table:ident $prefix:literal $($method:ident $path:literal $id:ident $access:ident
        $(audit($action:literal $(, $object:literal)?))? $(started($commit:ident))? $(budget($budget:ident))? $(secret($secret:literal))? $(by($certificate:ident))?;)+) => {
        /// The operations below this prefix.
        pub static $table: &[Operation] = &[$(Operation {
            id: stringify!($id),
            method: Method::$method,
            path: concat!($prefix, $path),
            access: Access::$access,
            audited: operations!(@audit [$($commit)?] $($action $(, $object)?)?),
            budget: operations!(@some $(Budget::$budget)?),
            secret: operations!(@some $($secret)?),
            by_certificate: operations!(@by $($certificate)?),
        }),+];
    };
    (@on) => { false };
    (@on on_commit) => { true };
    (@by) => { false };
    (@by certificate) => { true };
    (@some) => { None };
    (@some $value:expr) => { Some($value) };
    (@audit []) => { None };
    (@audit [$($commit:ident)?] $action:literal $(, $object:literal)?) => {
        Some(Audited {
            action: $action,
            object: operations!(@some $($object)?),
            on_commit: operations!(@on $($commit)?),
        })
    };
}

operations! { OPERATIONS "/api/v1"
    GET "/installation" getInstallation Public;
    POST "/setup" setUp Public audit("installation.set_up") budget(Setup);

    GET "/sessions/current" getCurrentSession Enrolment;
    DELETE "/sessions/current" signOut Enrolment audit("session.end");
    GET "/sessions" listSessions Member;
    POST "/sessions" signIn Public audit("session.sign_in") budget(SignIn);
    DELETE "/sessions/{id}" endSession Member audit("session.end", "session");

    GET "/people" listPeople Administrator;
    POST "/people" addPerson Administrator audit("person.add");
    GET "/people/{id}" getPerson Enrolment;
    PATCH "/people/{id}" editPerson Administrator audit("person.edit", "person");
    PUT "/people/{id}/password" setPassword Enrolment audit("person.set_password", "person") budget(SignIn);

    GET "/devices" listDevices Enrolment;
    GET "/devices/{id}" getDevice Enrolment;
    PATCH "/devices/{id}" editDevice Member audit("device.edit", "device");
    POST "/devices/{id}/revocation" revokeDevice Member audit("device.revoke", "device");

    GET "/invitations" listInvitations Member;
    POST "/invitations" invite Administrator audit("invitation.make") secret("link");
    POST "/invitations/acceptance" acceptInvitation Public audit("invitation.accept") budget(Acceptance);
    DELETE "/invitations/{id}" revokeInvitation Administrator audit("invitation.revoke", "invitation");

    GET "/certificates" listCertificates Enrolment;
    POST "/certificates" issueCertificate Enrolment audit("certificate.issue") started(on_commit);
    GET "/certificates/{serial}" getCertificate Enrolment;
    POST "/certificates/{serial}/revocation" revokeCertificate Member audit("certificate.revoke", "certificate") started(on_commit);
    POST "/certificates/{serial}/release" releaseCertificate Administrator audit("certificate.release", "certificate");
    POST "/certificates/{serial}/renewal" renewCertificate Member audit("certificate.renew", "certificate") started(on_commit) by(certificate);

    GET "/authorities" listAuthorities Enrolment;
    GET "/authorities/{name}" getAuthority Enrolment;
    POST "/authorities" stageAuthority Administrator audit("authority.stage");
    POST "/authorities/{name}/trust" trustAuthority Administrator audit("authority.trust", "authority");
    POST "/authorities/{name}/rollback" rollBackAuthority Administrator audit("authority.roll_back", "authority");
    POST "/authorities/{name}/issuance" letAuthorityIssue Administrator audit("authority.let_issue", "authority");
    POST "/authorities/{name}/retirement" retireAuthority Administrator audit("authority.retire", "authority");
    POST "/authorities/{name}/archival" archiveAuthority Administrator audit("authority.archive", "authority");
    GET "/authorities/{name}/dependants" listDependants Administrator;
    GET "/profiles" listProfiles Enrolment;
    POST "/profiles" addProfile Administrator audit("profile.add");
    GET "/profiles/{name}" getProfile Enrolment;
    PATCH "/profiles/{name}" editProfile Administrator audit("profile.edit", "profile");
    GET "/profiles/{name}/versions" listProfileVersions Administrator;
    POST "/profiles/{name}/explanation" explainProfile Administrator audit("profile.explain", "profile");
    POST "/profiles/{name}/rehearsal" rehearseProfile Administrator audit("profile.rehearse", "profile");

    GET "/sites" listSites Administrator;
    POST "/sites" addSite Administrator audit("site.add");
    GET "/sites/{host}" getSite Administrator;
    PATCH "/sites/{host}" editSite Administrator audit("site.edit", "site");
    DELETE "/sites/{host}" deleteSite Administrator audit("site.delete", "site");
    POST "/sites/{host}/renewal" renewSite Administrator audit("site.renew", "site");

    GET "/routes" listRoutes Administrator;
    POST "/routes" addRoute Administrator audit("route.add");
    GET "/routes/{id}" getRoute Administrator;
    PATCH "/routes/{id}" editRoute Administrator audit("route.edit", "route");
    DELETE "/routes/{id}" deleteRoute Administrator audit("route.delete", "route");
    POST "/routes/explanations" explainAccess Administrator audit("route.explain");
    POST "/routes/{id}/policy-trials" tryPolicy Administrator audit("route.try_policy", "route");

    GET "/upstreams" listUpstreams Administrator;
    POST "/upstreams" addUpstream Administrator audit("upstream.add");
    GET "/upstreams/{name}" getUpstream Administrator;
    PATCH "/upstreams/{name}" editUpstream Administrator audit("upstream.edit", "upstream");
    DELETE "/upstreams/{name}" deleteUpstream Administrator audit("upstream.delete", "upstream");

    GET "/jobs" listJobs Administrator;
    GET "/jobs/{name}/runs" listJobRuns Administrator;
    POST "/jobs/{name}/runs" runJob Administrator audit("job.run", "job");

    GET "/alerts" listAlerts Administrator;
    POST "/alerts/{id}/acknowledgement" acknowledgeAlert Administrator audit("alert.acknowledge", "alert");

    GET "/health-findings" listHealthFindings Administrator;

    GET "/audit-events" listAuditEvents Administrator;
    GET "/audit-chain" getAuditChain Administrator;
    GET "/audit-links" listAuditLinks Administrator;
    GET "/audit-checkpoints" listAuditCheckpoints Administrator;
    POST "/audit-checkpoints" signAuditCheckpoint Administrator audit("audit.sign");
    GET "/audit-keys" listAuditKeys Administrator;

    GET "/tokens" listTokens Member;
    POST "/tokens" createToken Member audit("token.make") secret("token");
    DELETE "/tokens/{id}" revokeToken Member audit("token.revoke", "token");

    GET "/configuration" getConfiguration Administrator;
    PUT "/configuration" applyConfiguration Administrator audit("configuration.apply");

    GET "/settings" getSettings Administrator;
    PATCH "/settings" editSettings Administrator audit("settings.edit");
}

// Enrollment over Secure Transport (RFC 7030), at the door only.
operations! { EST_OPERATIONS "/.well-known/est"
    GET "/cacerts" estCaCerts Public;
    GET "/csrattrs" estCsrAttrs Public;
    POST "/simpleenroll" estSimpleEnroll Public audit("certificate.issue") started(on_commit) budget(Acceptance);
    POST "/simplereenroll" estSimpleReenroll Member audit("certificate.renew") started(on_commit) budget(Renewal) by(certificate);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(method: Method, path: &str) -> Option<&'static str> {
        match find(OPERATIONS, &method, path) {
            Found::Operation(operation, _) => Some(operation.id),
            _ => None,
        }
    }

    #[test]
    fn literal_segments_win_and_unknown_paths_are_nothing() {
        assert_eq!(id(Method::DELETE, "/api/v1/sessions/current"), Some("signOut"));
        assert_eq!(id(Method::DELETE, "/api/v1/sessions/x"), Some("endSession"));
        assert_eq!(id(Method::HEAD, "/api/v1/people"), Some("listPeople"));
        assert!(matches!(find(OPERATIONS, &Method::GET, "/api/v1/people/"), Found::Nothing));
        assert!(matches!(find(OPERATIONS, &Method::GET, "/api/v1/people/a/b"), Found::Nothing));
        assert!(matches!(find(OPERATIONS, &Method::PUT, "/api/v1/people"), Found::OtherMethods(_)));
    }

    #[test]
    fn whatever_changes_something_is_audited() {
        for operation in OPERATIONS.iter().chain(EST_OPERATIONS) {
            assert_eq!(operation.audited.is_some(), operation.method != Method::GET, "{}", operation.id);
        }
    }
}
