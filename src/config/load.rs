//! From the command line, the environment and the disk to a [`Config`], or to every fault at once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::check::check;
use super::checked::Config;
use super::environment::{Environment, overlay};
use super::fault::{ConfigFaults, Fault};
use super::raw::RawConfig;
use super::schema::{Node, json_schema};
use super::walk::walk;

/// Where the file is looked for when nobody named one.
const USUAL_PLACES: [&str; 2] = ["wicketgate.toml", "/etc/wicketgate/wicketgate.toml"];

/// The variable that names the file.
const FILE_VARIABLE: &str = "WICKETGATE_CONFIG";

impl Config {
    /// Reads the file (`path`, else `$WICKETGATE_CONFIG`, else the first of the usual places that
    /// exists, else none) and lays the environment over it.
    ///
    /// # Errors
    /// Every fault of file, environment and values, in the order of the file.
    pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Self, ConfigFaults> {
        let named = path
            .map(|path| ("--config", path.to_owned()))
            .or_else(|| Some((FILE_VARIABLE, PathBuf::from(environment.get(FILE_VARIABLE)?))));
        let (text, file) = match named {
            Some((by, path)) => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    let reason = format!("cannot be read: {error}");
                    ConfigFaults(vec![Fault::of_value(by, &path.display().to_string(), reason)])
                })?;
                (text, Some(path))
            }
            None => usual_file()?,
        };
        let mut config = Self::parse(&text, environment)?;
        config.file = file;
        Ok(config)
    }

    /// The same from the text of a file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, environment: &Environment) -> Result<Self, ConfigFaults> {
        let mut faults = Vec::new();
        // A file that is no TOML hides its keys, but what the environment says can still be checked.
        let mut table = text.parse::<Table>().unwrap_or_else(|error| {
            faults.push(syntax_fault(text, &error));
            Table::new()
        });
        let schema = json_schema();
        let origins = overlay(&mut table, environment, Node(&schema));
        faults.extend(walk(&mut table, Node(&schema), &origins));
        let raw = RawConfig::deserialize(Value::Table(table)).unwrap_or_else(|error| {
            faults.push(Fault::of_key("configuration", error.message()));
            RawConfig::default()
        });
        let config = check(raw, environment, &origins, &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(ConfigFaults(faults)) }
    }
}

fn usual_file() -> Result<(String, Option<PathBuf>), ConfigFaults> {
    for place in USUAL_PLACES {
        match std::fs::read_to_string(place) {
            Ok(text) => return Ok((text, Some(place.into()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let reason = format!("cannot be read: {error}");
                return Err(ConfigFaults(vec![Fault::of_value("configuration", place, reason)]));
            }
        }
    }
    Ok((String::new(), None))
}

/// Line and column, but not the line itself, which may hold a secret.
fn syntax_fault(text: &str, error: &toml::de::Error) -> Fault {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let message = error.message().lines().next().unwrap_or("is not TOML");
    Fault::of_key(format!("line {line}, column {column}"), message)
}
