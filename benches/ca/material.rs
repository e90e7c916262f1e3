//! What is made beforehand, so that it is not measured: P-256 signing requests, and for step-ca its
//! authorities and one-time tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use wicketgate::pki::keygen;

/// Where the requests lie for the houses.
pub(crate) fn requests_file(folder: &Path) -> PathBuf {
    folder.join("requests.json")
}

/// The name in request `index`.
pub(crate) fn name_of(index: usize) -> String {
    format!("device-{index:07}")
}

/// Signing requests in PEM; request n is for [`name_of`] n.
pub(crate) fn requests(folder: &Path, count: usize) -> Result<Vec<String>> {
    let mut requests = Vec::with_capacity(count);
    for index in 0..count {
        let (key, _) = keygen::generate_p256();
        requests.push(keygen::client_csr_pem(key.expose(), &name_of(index))?);
    }
    std::fs::write(requests_file(folder), serde_json::to_vec(&requests)?)?;
    Ok(requests)
}

/// Writes `root.pem`, `issuing.pem` and `issuing.key`: what step-ca signs with. P-256, as ours.
pub(crate) fn step_authorities(folder: &Path) -> Result<()> {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    };
    let (root_key, issuing_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let root = authority("Bench Root");
    let issuing = authority("Bench Issuing");
    std::fs::write(folder.join("root.pem"), root.self_signed(&root_key)?.pem())?;
    let issuing = issuing.signed_by(&issuing_key, &Issuer::from_params(&root, &root_key))?;
    std::fs::write(folder.join("issuing.pem"), issuing.pem())?;
    std::fs::write(folder.join("issuing.key"), issuing_key.serialize_pem())?;
    Ok(())
}

/// The key of step-ca's provisioner.
pub(crate) struct Provisioner(EcdsaKeyPair);

impl Provisioner {
    pub(crate) fn fresh() -> Result<Self> {
        let fault = |_| anyhow!("no key");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(fault)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref());
        Ok(Self(pair.map_err(|_| anyhow!("no key"))?))
    }

    /// The public half, as step-ca's configuration takes it.
    pub(crate) fn jwk(&self) -> Result<Value> {
        // Uncompressed: 4, x, y.
        let point = self.0.public_key().as_ref();
        let (x, y) = point.get(1..).and_then(|point| point.split_at_checked(32)).context("a point")?;
        Ok(json!({
            "use": "sig", "kty": "EC", "kid": "bench", "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }))
    }

    /// A one-time token for `name`.
    pub(crate) fn token(&self, name: &str, audience: &str, now: i64) -> Result<String> {
        let header = json!({ "alg": "ES256", "kid": "bench", "typ": "JWT" });
        let claims = json!({
            "iss": "bench", "aud": audience, "sub": name, "sans": [name], "jti": format!("{name}-{now}"),
            "iat": now, "nbf": now - 60, "exp": now + 3_600,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signature =
            self.0.sign(&SystemRandom::new(), text.as_bytes()).map_err(|_| anyhow!("no token"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}
