//! Our account. Its key is stored, sealed, before the authority hears of it: repeating a registration
//! with the same key finds the same account, so that a crash loses nothing.

use std::time::Duration;

use instant_acme::{Account, Key};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Acme;
use super::fault::AcmeError;
use super::http::AcmeHttp;
use crate::domain::{Secret, UtcTime};
use crate::store::StoreError;
use crate::store::acme::Account as AccountRow;

/// Registrations under one nonce after the other, when the authority keeps refusing nonces.
const NONCES: u32 = 8;
/// Pause between them, times their number.
const NONCE_PAUSE: Duration = Duration::from_millis(150);

/// An account in use, with the note of what the last answer said.
pub(super) struct Session {
    pub(super) account: Account,
    pub(super) http: AcmeHttp,
    pub(super) row: String,
}

impl Acme {
    /// Signs in, registering first if need be. The clocks are compared on the way.
    pub(super) async fn sign_in(&self, now: UtcTime) -> Result<Session, AcmeError> {
        let mut refused = 0;
        loop {
            match self.try_to_sign_in(now).await {
                Err(error) if error.is_refusal("badNonce") && refused < NONCES => {
                    refused += 1;
                    tokio::time::sleep(NONCE_PAUSE * refused).await;
                }
                result => return result,
            }
        }
    }

    async fn try_to_sign_in(&self, now: UtcTime) -> Result<Session, AcmeError> {
        let http = self.0.http.fresh();
        let row = self.account_row(now).await?;
        let pkcs8 = self.0.vaults.authority.open(AccountRow::place(&row.id), &row.sealed_key);
        let pkcs8 = pkcs8.map_err(|_| AcmeError::Sealed("the ACME account"))?;
        let directory = self.0.settings.directory_url.clone();
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let read = |error| AcmeError::of(error, &http.last());
        let der = PrivatePkcs8KeyDer::from(pkcs8.expose().clone());
        let account = match row.url {
            Some(url) => builder.from_parts(url, der, directory).await.map_err(read)?,
            None => {
                let key = Key::from_pkcs8_der(der.clone_key()).map_err(read)?;
                let registered = builder.create_from_key((key, PrivateKeyDer::from(der)), directory).await;
                let (account, _) = registered.map_err(read)?;
                crate::crash::reach("acme.after_registration");
                self.0.store.set_acme_account_url(&row.id, Some(account.id())).await?;
                self.tell_contact(&account).await;
                account
            }
        };
        self.compare_clocks(http.last().date, now)?;
        Ok(Session { account, http, row: row.id })
    }

    async fn account_row(&self, now: UtcTime) -> Result<AccountRow, AcmeError> {
        let directory = &self.0.settings.directory_url;
        if let Some(row) = self.0.store.acme_account(directory).await? {
            return Ok(row);
        }
        let made = Key::generate_pkcs8().map_err(|error| AcmeError::Request(error.to_string()))?;
        let pkcs8 = Secret::new(made.1.secret_pkcs8_der().to_vec());
        let id = uuid::Uuid::now_v7().to_string();
        let sealed_key = self.0.vaults.authority.seal(AccountRow::place(&id), pkcs8.expose())?;
        let row = AccountRow { id, directory: directory.clone(), sealed_key, url: None };
        match self.0.store.insert_acme_account(&row, now).await {
            Ok(()) => Ok(row),
            // Another name's order was faster; its key is the account's.
            Err(StoreError::Taken { .. }) => {
                let theirs = self.0.store.acme_account(directory).await?;
                Ok(theirs.ok_or(StoreError::Missing { what: "ACME account" })?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The contact is a courtesy: authorities send no mail any more, so its refusal stops nothing.
    async fn tell_contact(&self, account: &Account) {
        let Some(contact) = &self.0.settings.contact else { return };
        let url = if contact.starts_with("mailto:") { contact.clone() } else { format!("mailto:{contact}") };
        if account.update_contacts(&[&url]).await.is_err() {
            tracing::warn!("The ACME authority did not take the contact address; orders go on without it");
        }
    }

    fn compare_clocks(&self, theirs: Option<UtcTime>, ours: UtcTime) -> Result<(), AcmeError> {
        match theirs {
            Some(theirs) if theirs.since(ours).max(ours.since(theirs)) > self.0.settings.max_clock_skew => {
                Err(AcmeError::ClockSkew { ours, theirs })
            }
            _ => Ok(()),
        }
    }
}
