//! The rules of `deny.toml` about licences and sources, applied to the resolved dependencies. `cargo deny check` knows more
//! (advisories), but takes longer to install than everything else takes to run.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;

use crate::cargo;
use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::paths;
use crate::process;

/// Crates that operating systems and tools embed: no excepted licence may reach them.
const EMBEDDED: &[&str] = &["lkm-module", "lkm-link", "lkm-kernel", "lkm-tree"];

#[derive(Deserialize)]
struct Rules {
    licenses: LicenceRules,
    sources: SourceRules,
}

#[derive(Deserialize)]
struct LicenceRules {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SourceRules {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// `None`: it is in this repository.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// Applies the rules; prints how many packages were looked at and which are there twice.
pub(crate) fn check() -> Result<()> {
    let path = paths::root().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rules = Rules::parse(&text)?;
    let metadata =
        process::output(cargo().args(["metadata", "--format-version=1", "--locked", "--all-features"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata is not as expected")?;

    let mut broken = Vec::new();
    for package in &metadata.packages {
        broken.extend(rules.source(package));
        broken.extend(rules.licence(package));
    }
    broken.extend(rules.embedded(&metadata));
    for (name, versions) in several_versions(&metadata.packages) {
        println!("    {name} is there in {} versions: {}", versions.len(), versions.join(", "));
    }
    if broken.is_empty() {
        println!("    {} packages keep the rules", metadata.packages.len());
        return Ok(());
    }
    Err(Error::new(format!("against the rules in deny.toml:\n    {}", broken.join("\n    "))))
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::new(format!("deny.toml: {error}")))
    }

    fn exception(&self, package: &Package) -> Option<&Exception> {
        self.licenses.exceptions.iter().find(|exception| exception.name == package.name)
    }

    fn licence(&self, package: &Package) -> Option<String> {
        // What is in this repository is not published, and each file says what it is under.
        package.source.as_ref()?;
        let Some(licence) = &package.license else {
            return Some(format!("{} {} names no licence", package.name, package.version));
        };
        let mut allowed: Vec<&str> = self.licenses.allow.iter().map(String::as_str).collect();
        if let Some(exception) = self.exception(package) {
            allowed.extend(exception.allow.iter().map(String::as_str));
        }
        match is_allowed(licence, &allowed) {
            Ok(true) => None,
            Ok(false) => Some(format!("{} {} is under {licence}", package.name, package.version)),
            Err(error) => Some(format!("{} {}: {error}", package.name, package.version)),
        }
    }

    fn source(&self, package: &Package) -> Option<String> {
        let source = package.source.as_ref()?;
        let known = source
            .strip_prefix("registry+")
            .is_some_and(|registry| self.sources.allow_registry.iter().any(|known| known == registry));
        (!known).then(|| format!("{} {} comes from {source}", package.name, package.version))
    }

    /// The excepted packages that something embedded depends on.
    fn embedded(&self, metadata: &Metadata) -> Vec<String> {
        let packages: BTreeMap<&str, &Package> =
            metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
        let edges: BTreeMap<&str, &Node> =
            metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut found = Vec::new();
        for root in metadata.packages.iter().filter(|package| EMBEDDED.contains(&package.name.as_str())) {
            let mut seen = BTreeSet::new();
            let mut open = vec![root.id.as_str()];
            while let Some(id) = open.pop() {
                if !seen.insert(id) {
                    continue;
                }
                if let Some(package) = packages.get(id).filter(|package| self.exception(package).is_some()) {
                    found.push(format!("{} depends on {}", root.name, package.name));
                }
                open.extend(
                    edges.get(id).iter().flat_map(|node| node.dependencies.iter().map(String::as_str)),
                );
            }
        }
        found
    }
}

/// Whether the expression can be satisfied by these licences.
fn is_allowed(expression: &str, allowed: &[&str]) -> std::result::Result<bool, String> {
    // Older crates write `MIT/Apache-2.0`, and GPL without saying whether later versions are meant.
    let parsed = spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX)
        .map_err(|error| format!("{expression} is no licence expression: {error}"))?;
    Ok(parsed.evaluate(|requirement| {
        let name = requirement.to_string();
        allowed.iter().any(|allowed| {
            *allowed == name || name.strip_suffix("-only").is_some_and(|name| name == *allowed)
        })
    }))
}

fn several_versions(packages: &[Package]) -> Vec<(&str, Vec<&str>)> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    versions.into_iter().filter(|(_, versions)| versions.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_they_are_written() {
        let allowed = ["MIT", "Unicode-3.0", "GPL-2.0", "Apache-2.0 WITH LLVM-exception"];
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("Apache-2.0/MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT AND Apache-2.0", false),
            ("Apache-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0", true),
            ("GPL-3.0", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), Ok(expected), "{expression}");
        }
        assert!(is_allowed("my own licence", &allowed).is_err());
    }

    fn package(name: &str, license: &str, source: Option<&str>) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: Some(license.to_owned()),
            source: source.map(str::to_owned),
        }
    }

    #[test]
    fn the_committed_rules_tell_good_from_bad() {
        let text = fs::read_to_string(paths::root().join("deny.toml")).unwrap();
        let rules = Rules::parse(&text).unwrap();
        let registry = "registry+https://github.com/rust-lang/crates.io-index";
        assert_eq!(rules.licence(&package("a", "MIT", Some(registry))), None);
        assert!(rules.licence(&package("a", "GPL-2.0", Some(registry))).is_some());
        assert_eq!(rules.licence(&package("unicorn-engine", "GPL-2.0", Some(registry))), None);
        assert_eq!(rules.source(&package("a", "MIT", Some(registry))), None);
        assert!(rules.source(&package("a", "MIT", Some("git+https://example.org/a"))).is_some());
        assert!(rules.source(&package("a", "MIT", Some("registry+https://example.org"))).is_some());
    }

    #[test]
    fn an_excepted_licence_may_not_reach_what_others_embed() {
        let text = fs::read_to_string(paths::root().join("deny.toml")).unwrap();
        let rules = Rules::parse(&text).unwrap();
        let node = |id: &str, dependencies: &[&str]| Node {
            id: id.to_owned(),
            dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        };
        let mut metadata = Metadata {
            packages: vec![
                package("lkm-link", "MIT", None),
                package("between", "MIT", None),
                package("unicorn-engine", "GPL-2.0", None),
            ],
            resolve: Resolve { nodes: vec![node("lkm-link", &["between"]), node("between", &[])] },
        };
        assert!(rules.embedded(&metadata).is_empty());
        metadata.resolve.nodes[1].dependencies.push("unicorn-engine".to_owned());
        assert_eq!(rules.embedded(&metadata), ["lkm-link depends on unicorn-engine"]);
    }
}
