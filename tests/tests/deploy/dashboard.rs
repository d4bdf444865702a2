//! The dashboard's file: importable anywhere, and each panel says what it shows.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::tools::read;

/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;

/// The dashboard "Flotilla fleet".
pub(crate) struct Dashboard(Value);

/// A query of a panel, as it stands in the file.
pub(crate) struct Query<'a> {
    pub(crate) panel: &'a str,
    pub(crate) expression: &'a str,
}

impl Dashboard {
    pub(crate) fn read() -> Result<Self> {
        Ok(Self(serde_json::from_str(&read(
            "deploy/grafana/dashboards/fleet.json",
        )?)?))
    }

    /// Everything on the grid, rows included.
    fn items(&self) -> Result<&[Value]> {
        Ok(self.0["panels"].as_array().context("panels")?)
    }

    /// The panels that show something.
    fn panels(&self) -> Result<impl Iterator<Item = &Value>> {
        Ok(self.items()?.iter().filter(|panel| panel["type"] != "row"))
    }

    /// The queries of all panels.
    pub(crate) fn queries(&self) -> Result<Vec<Query<'_>>> {
        let mut queries = Vec::new();
        for panel in self.panels()? {
            let title = panel["title"].as_str().context("a title")?;
            for target in panel["targets"]
                .as_array()
                .with_context(|| format!("queries of {title}"))?
            {
                let expression = target["expr"].as_str().context("an expression")?;
                queries.push(Query {
                    panel: title,
                    expression,
                });
            }
        }
        Ok(queries)
    }

    /// The variables one can choose, by name, with their queries. The data source has none.
    pub(crate) fn variables(&self) -> Result<Vec<(&str, Option<&str>)>> {
        let variables = self.0["templating"]["list"]
            .as_array()
            .context("variables")?;
        variables
            .iter()
            .map(|variable| {
                let name = variable["name"].as_str().context("a variable's name")?;
                Ok((name, variable["query"]["query"].as_str()))
            })
            .collect()
    }
}

/// Every `datasource` anywhere below a value.
fn datasources<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if key == "datasource" {
                    found.push(member);
                }
                datasources(member, found);
            }
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|element| datasources(element, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_can_be_imported_anywhere() -> Result<()> {
    let dashboard = Dashboard::read()?;
    let Dashboard(file) = &dashboard;
    assert_eq!(file["title"], "Flotilla fleet");
    assert_eq!(file["uid"], "flotilla-fleet");
    assert_eq!(file["id"], Value::Null, "an id belongs to one installation");
    assert_eq!(file["graphTooltip"], 1);
    assert_eq!(file["tags"], json!(["flotilla"]));
    ensure!(file["schemaVersion"].as_u64() >= Some(36));
    let chosen = json!({"type": "prometheus", "uid": "${datasource}"});
    let mut named = Vec::new();
    datasources(file, &mut named);
    ensure!(named.len() > dashboard.panels()?.count());
    for datasource in named {
        assert_eq!(datasource, &chosen, "the data source is a variable");
    }
    assert_eq!(dashboard.variables()?[0], ("datasource", None));
    Ok(())
}

#[test]
fn every_panel_says_what_it_shows_and_in_what_unit() -> Result<()> {
    let dashboard = Dashboard::read()?;
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard.items()? {
        ensure!(
            ids.insert(panel["id"].as_u64().context("an id")?),
            "twice: {panel}"
        );
    }
    for panel in dashboard.panels()? {
        let title = panel["title"].as_str().context("a title")?;
        ensure!(titles.insert(title), "two panels are called {title}");
        let description = panel["description"].as_str().unwrap_or_default();
        ensure!(
            description.len() > 20 && description.ends_with('.'),
            "{title}: no sentence"
        );
        let unit = panel["fieldConfig"]["defaults"]["unit"]
            .as_str()
            .unwrap_or_default();
        ensure!(!unit.is_empty(), "{title}: no unit");
    }
    Ok(())
}

#[test]
fn panels_fill_the_grid_without_overlap() -> Result<()> {
    let mut taken = BTreeSet::new();
    for panel in Dashboard::read()?.items()? {
        let side = |name: &str| panel["gridPos"][name].as_u64().context("a position");
        let (x, y, width, height) = (side("x")?, side("y")?, side("w")?, side("h")?);
        ensure!(x + width <= COLUMNS, "{} is too wide", panel["title"]);
        for column in x..x + width {
            for row in y..y + height {
                ensure!(
                    taken.insert((column, row)),
                    "{} covers another panel",
                    panel["title"]
                );
            }
        }
    }
    let height = taken
        .iter()
        .map(|(_, row)| row + 1)
        .max()
        .context("an empty dashboard")?;
    assert_eq!(taken.len() as u64, COLUMNS * height, "holes in the grid");
    Ok(())
}

#[test]
fn queries_use_the_interval_and_the_variables_that_grafana_gives_them() -> Result<()> {
    let dashboard = Dashboard::read()?;
    let mut known: Vec<String> = dashboard
        .variables()?
        .iter()
        .map(|(name, _)| format!("${name}"))
        .collect();
    known.push("$__rate_interval".to_owned());
    for Query { panel, expression } in dashboard.queries()? {
        let ranges = expression.matches('[').count();
        assert_eq!(
            ranges,
            expression.matches("[$__rate_interval]").count(),
            "{panel}: {expression}"
        );
        let functions = ["rate(", "increase("]
            .iter()
            .map(|name| expression.matches(name).count());
        assert_eq!(functions.sum::<usize>(), ranges, "{panel}: {expression}");
        for variable in expression.split('$').skip(1) {
            let end = variable.find(|c: char| !c.is_alphanumeric() && c != '_');
            let variable = format!("${}", &variable[..end.unwrap_or(variable.len())]);
            ensure!(known.contains(&variable), "{panel}: no variable {variable}");
        }
    }
    Ok(())
}
