//! Reading a process' metrics the way Prometheus does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// One reading of `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    text: String,
    /// Value by series, the series written as in the exposition: `name{label="value"}`.
    series: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the metrics of the process whose admin listener is at `admin`.
    ///
    /// # Errors
    /// When it does not answer 200, or a line is not of the text exposition format.
    pub async fn of(admin: &str) -> Result<Self> {
        let response = reqwest::get(format!("http://{admin}/metrics")).await?;
        ensure!(
            response.status() == 200,
            "/metrics answered {}",
            response.status()
        );
        let kind = response
            .headers()
            .get("content-type")
            .context("a content type")?
            .to_str()?;
        ensure!(
            kind.starts_with("text/plain; version=0.0.4"),
            "content type {kind}"
        );
        Self::parse(response.text().await?)
    }

    fn parse(text: String) -> Result<Self> {
        let mut series = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (name, value) = line
                .rsplit_once(' ')
                .with_context(|| format!("no value: {line}"))?;
            let value = value
                .parse()
                .with_context(|| format!("not a number: {line}"))?;
            let first = series.insert(name.to_owned(), value).is_none();
            ensure!(first, "two values of one series: {line}");
        }
        Ok(Self { text, series })
    }

    /// The exposition as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of all metrics, as declared by their TYPE lines.
    pub fn names(&self) -> BTreeSet<&str> {
        let types = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|line| line.split(' ').next()).collect()
    }

    /// The series, without their values.
    pub fn series(&self) -> BTreeSet<&str> {
        self.series.keys().map(String::as_str).collect()
    }

    /// Sum over all series of a metric that carry all of these labels (`worker="w1"`).
    ///
    /// # Errors
    /// When there is no such series.
    pub fn sum(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let matching = self.series.iter().filter(|(series, _)| {
            series.split('{').next() == Some(name)
                && labels.iter().all(|label| series.contains(label))
        });
        let values: Vec<f64> = matching.map(|(_, value)| *value).collect();
        ensure!(
            !values.is_empty(),
            "no series of {name} with {labels:?} in:\n{}",
            self.text
        );
        Ok(values.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let text =
            "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\nab 9\n";
        let scrape = Scrape::parse(text.to_owned()).unwrap();
        assert_eq!(scrape.sum("a", &[]).unwrap(), 7.0);
        assert_eq!(scrape.sum("a", &["x=\"1\""]).unwrap(), 3.0);
        assert!(scrape.sum("a", &["x=\"1\"", "y=\"3\""]).is_err());
        assert_eq!(scrape.names(), BTreeSet::from(["a"]));
    }

    #[test]
    fn what_is_no_exposition_is_refused() {
        for text in ["<html>", "a b c", "a 1\na 2"] {
            assert!(Scrape::parse(text.to_owned()).is_err(), "{text}");
        }
    }
}
