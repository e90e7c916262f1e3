//! Backups and restores of rows: complete, the same on both databases, and refused when anything is off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use wicketgate::domain::{Seal, Secret, UtcTime};
use wicketgate::keys::{Kek, Purpose, SystemEntropy};
use wicketgate::store::Store;
use wicketgate::store::backup::{Backup, BackupError, Manifest, RestoreError, restore};
use wicketgate::store::certificates::CertificateFilter;
use wicketgate::store::settings::INSTALLATION_ID;

use super::fixture::{World, vaults};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

/// What a restore changes on purpose.
const SETTLED: [&str; 3] = ["authority", "crl_head", "invitation"];
const URL: &str = "WICKETGATE_TEST_RESTORE_URL";
const FROM: &str = "WICKETGATE_TEST_RESTORE_FROM";
const KEY: &str = "WICKETGATE_TEST_RESTORE_KEY";

fn kek(key: &Secret<String>) -> Kek {
    Kek::from_text(Purpose::Authority, key, "test").unwrap()
}

fn now() -> UtcTime {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

/// An installation with a certificate in force and a revoked one, and a backup of it.
struct Scene {
    folder: TempDir,
    key: Secret<String>,
    url: String,
}

impl Scene {
    async fn over(database: &TestDatabase) -> Self {
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
            key: Kek::fresh_text(&SystemEntropy),
            url: database.url(),
        };
        let store = Store::create(&scene.url, 3).await.unwrap();
        store.migrate(None).await.unwrap();
        let world = World::with(store, &scene.key).await;
        let transaction = world.store.begin().await.unwrap();
        transaction.set_setting(INSTALLATION_ID, "the installation").await.unwrap();
        transaction.commit().await.unwrap();
        world.issue("phone").await;
        let lost = world.issue("lost").await.certificate.serial;
        world.revoke(lost, "keyCompromise").await.unwrap();
        world.ca.publish_crls(world.now()).await.unwrap();
        world.store.back_up(&scene.backup(), &kek(&scene.key), world.now()).await.unwrap();
        // Nothing of this is in the backup.
        world.issue("later").await;
        world.store.close().await;
        scene
    }

    fn backup(&self) -> PathBuf {
        self.folder.path().join("backup")
    }

    fn opened(&self) -> Result<Backup, RestoreError> {
        Backup::open(&self.backup(), &kek(&self.key))
    }

    /// What the database holds now.
    async fn taken_of(&self, url: &str, name: &str) -> Manifest {
        let store = Store::open(url, 1).await.unwrap();
        let taken = store.back_up(&self.folder.path().join(name), &kek(&self.key), now()).await.unwrap();
        store.close().await;
        taken
    }

    async fn devices(&self, url: &str) -> usize {
        let store = Store::open(url, 1).await.unwrap();
        let all = store.certificates(&CertificateFilter::default(), 100, now()).await.unwrap();
        store.close().await;
        all.len()
    }

    /// Writes the manifest anew, with a seal that fits: what only the holder of the key can do.
    fn edit_manifest(&self, edit: impl FnOnce(&mut Value)) {
        use base64::Engine;
        let path = self.backup().join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut manifest);
        let text = manifest.to_string();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let digest: String = digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
        let sealed = kek(&self.key).seal(b"backup manifest", digest.as_bytes());
        let sealed = base64::engine::general_purpose::STANDARD.encode(sealed);
        std::fs::write(path, text).unwrap();
        std::fs::write(self.backup().join("manifest.seal"), sealed).unwrap();
    }
}

fn contents(manifest: &Manifest) -> BTreeMap<&str, &str> {
    let parts = manifest.parts.iter().filter(|part| !SETTLED.contains(&part.table.as_str()));
    parts.map(|part| (part.table.as_str(), part.sha256.as_str())).collect()
}

/// Copies a backup, so that it can be damaged.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

on_both_databases! {
    async fn a_restored_installation_holds_every_row_on_either_database(database) {
        let scene = Scene::over(database).await;
        let backup = scene.opened().unwrap();
        assert!(backup.manifest().rows() > 20, "{:?}", backup.manifest());
        backup.check_keys(&vaults(&scene.key)).unwrap();
        let mut targets = vec![TestDatabase::sqlite()];
        targets.extend(TestDatabase::postgres());
        for (number, target) in targets.iter().enumerate() {
            restore(&target.url(), &backup, false, now()).await.unwrap();
            let again = scene.taken_of(&target.url(), &format!("again-{number}")).await;
            assert_eq!(contents(&again), contents(backup.manifest()));
            assert_eq!(again.epoch, backup.manifest().epoch);

            // It goes on: old numbers and serials are not used again, and what was revoked is.
            let store = Store::open(&target.url(), 3).await.unwrap();
            let name = "client-issuing-g1".parse().unwrap();
            let before = store.latest_crl(&name).await.unwrap().unwrap().number;
            let world = World::with(store, &scene.key).await;
            world.ca.publish_crls(now()).await.unwrap();
            let list = world.store.latest_crl(&name).await.unwrap().unwrap();
            assert!(list.number > before + 1000, "past what was published since the backup");
            assert_eq!(world.store.revocations(&name, UtcTime::EPOCH).await.unwrap().len(), 1);
            world.issue("tablet").await;
            world.store.close().await;
        }
    }

    async fn a_restore_over_an_installation_must_be_asked_for_and_takes_its_place(database) {
        let scene = Scene::over(database).await;
        let backup = scene.opened().unwrap();
        assert_eq!(scene.devices(&scene.url).await, 3);
        let refused = restore(&scene.url, &backup, false, now()).await.unwrap_err();
        assert!(matches!(refused, RestoreError::NotEmpty), "{refused}");
        assert_eq!(scene.devices(&scene.url).await, 3);
        let restored = restore(&scene.url, &backup, true, now()).await.unwrap();
        assert_eq!(scene.devices(&scene.url).await, 2);
        if let Some(kept) = restored.kept {
            assert_eq!(scene.devices(&format!("sqlite:{}", kept.display())).await, 3, "kept whole");
        }
    }

    async fn a_crash_in_a_restore_leaves_what_was_there(database) {
        let scene = Scene::over(database).await;
        let sqlite = matches!(database, TestDatabase::Sqlite(_));
        for point in ["restore.before_commit", "restore.before_swap"] {
            if sqlite || point == "restore.before_commit" {
                assert!(crash_at(point, &scene), "{point} was not reached");
                // The killed process's connection may outlive it for a moment.
                assert_eq!(scene.devices(&scene.url).await, 3, "{point}");
            }
        }
        crate::harness::wait_for("the dead connection to go", || {
            let backup = scene.opened().unwrap();
            let (url, at) = (scene.url.clone(), now());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(restore(&url, &backup, true, at)).is_ok()
            }).join().unwrap().then_some(())
        });
        assert_eq!(scene.devices(&scene.url).await, 2);
    }
}

/// Not a test of its own: what the process does that the test above lets crash.
#[tokio::test]
async fn child() {
    let (Ok(url), Ok(from), Ok(key)) = (std::env::var(URL), std::env::var(FROM), std::env::var(KEY)) else {
        return;
    };
    let backup = Backup::open(Path::new(&from), &kek(&Secret::new(key))).unwrap();
    restore(&url, &backup, true, now()).await.unwrap();
}

fn crash_at(point: &str, scene: &Scene) -> bool {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ca::backup::child", "--test-threads=1"])
        .env(URL, &scene.url)
        .env(FROM, scene.backup())
        .env(KEY, scene.key.expose())
        .env("WICKETGATE_CRASH_AT", point)
        .output()
        .unwrap();
    !child.status.success() && child.status.code().is_none()
}

#[tokio::test]
async fn a_backup_never_overwrites_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let database = TestDatabase::sqlite();
    let scene = Scene::over(&database).await;
    let store = Store::open(&scene.url, 1).await.unwrap();
    let refused = store.back_up(&scene.backup(), &kek(&scene.key), now()).await.unwrap_err();
    assert!(matches!(refused, BackupError::Exists(_)), "{refused}");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scene.backup()), 0o700);
    for entry in std::fs::read_dir(scene.backup()).unwrap().map(Result::unwrap) {
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
    }
    for left_out in ["session", "setup_link", "idempotency_key", "lease"] {
        assert!(!scene.backup().join(format!("{left_out}.jsonl")).exists());
    }
}

#[tokio::test]
async fn whatever_is_torn_changed_or_of_others_is_refused_and_nothing_is_touched() {
    let database = TestDatabase::sqlite();
    let scene = Scene::over(&database).await;
    let whole = scene.folder.path().join("whole");
    std::fs::rename(scene.backup(), &whole).unwrap();
    let part = |name: &str| scene.backup().join(format!("{name}.jsonl"));
    let change = |path: PathBuf, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&path).unwrap();
        edit(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a str);
    let damages: Vec<Damage<'_>> = vec![
        ("a byte", Box::new(|| change(part("person"), &|bytes| bytes[40] ^= 1)), "torn or was changed"),
        (
            "torn",
            Box::new(|| change(part("certificate"), &|bytes| bytes.truncate(bytes.len() / 2))),
            "torn or was changed",
        ),
        (
            "a row more",
            Box::new(|| {
                change(part("person"), &|bytes| {
                    let first = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap().to_vec();
                    bytes.extend(first);
                });
            }),
            "torn or was changed",
        ),
        ("a part less", Box::new(|| std::fs::remove_file(part("serial")).unwrap()), "cannot be read"),
        (
            "the manifest",
            Box::new(|| change(scene.backup().join("manifest.json"), &|bytes| bytes.push(b' '))),
            "the manifest was changed",
        ),
        (
            "a newer schema",
            Box::new(|| {
                scene.edit_manifest(|manifest| {
                    manifest["steps"].as_array_mut().unwrap().push("m9999_later".into());
                });
            }),
            "it has step m9999_later",
        ),
        (
            "another format",
            Box::new(|| scene.edit_manifest(|manifest| manifest["format"] = "wicketgate-backup-2".into())),
            "no backup of the kind",
        ),
        (
            "a way out",
            Box::new(|| scene.edit_manifest(|manifest| manifest["parts"][0]["table"] = "../person".into())),
            "is no table",
        ),
    ];
    for (what, damage, told) in damages {
        copy(&whole, &scene.backup());
        scene.opened().unwrap();
        damage();
        let refused = scene.opened().unwrap_err().to_string();
        assert!(refused.contains(told), "{what}: {refused}");
        std::fs::remove_dir_all(scene.backup()).unwrap();
    }
    copy(&whole, &scene.backup());
    let other = Kek::fresh_text(&SystemEntropy);
    assert!(matches!(Backup::open(&scene.backup(), &kek(&other)), Err(RestoreError::Seal)));
    let refused = scene.opened().unwrap().check_keys(&vaults(&other)).unwrap_err();
    assert!(matches!(refused, RestoreError::Key(_)), "{refused}");
    assert_eq!(scene.devices(&scene.url).await, 3);
}

#[tokio::test]
async fn what_is_changed_between_check_and_restore_leaves_the_old_data() {
    let database = TestDatabase::sqlite();
    let scene = Scene::over(&database).await;
    let backup = scene.opened().unwrap();
    let path = scene.backup().join("audit_event.jsonl");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 10;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let refused = restore(&scene.url, &backup, true, now()).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Changed(_) | RestoreError::Store(_)), "{refused}");
    assert_eq!(scene.devices(&scene.url).await, 3);
    let beside = std::fs::read_dir(Path::new(scene.url.strip_prefix("sqlite:").unwrap()).parent().unwrap());
    let names: Vec<_> = beside.unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("restoring")), "{names:?}");
}
