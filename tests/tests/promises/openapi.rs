//! The OpenAPI document says what a worker does: every method, every field of a request, every form of an answer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::back_end::BackEnd;
use flotilla_tests::client::{Client, Dial};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::scrape::Scrape;
use flotilla_tests::token;
use jsonschema::Validator;
use reqwest::StatusCode;
use serde_json::{Value, json};
use toml::Table;

const DOCUMENT: &str = include_str!("../../../deploy/api/openapi.json");

const KEY: &str = "the key of the back end";

/// Largest request. So small that the answer to a larger one finds everything sent.
const BODY_MAX: usize = 8 * 1024;

/// The document's examples speak of this channel; somebody is in it.
const CHANNEL: &str = "chat:lobby";

/// A worker to which everything can be said, and two clients that give it something to tell.
struct Stage {
    fleet: Fleet,
    document: Value,
    back_end: reqwest::Client,
    _clients: Vec<Client>,
    _hooks: BackEnd,
}

/// One method, as it is documented.
struct Operation<'a> {
    path: &'a str,
    request: &'a Value,
    examples: Vec<&'a Value>,
    /// By status; `default` for all others.
    answers: BTreeMap<&'a str, &'a Value>,
}

impl Stage {
    async fn new() -> Result<Self> {
        let mut namespace = Table::new();
        for switch in [
            "presence",
            "allow_subscribe_for_client",
            "allow_publish_for_client",
        ] {
            namespace.insert(switch.to_owned(), true.into());
        }
        namespace.insert("name".to_owned(), "chat".into());
        namespace.insert("history_size".to_owned(), 10.into());
        namespace.insert("history_ttl".to_owned(), "5m".into());
        let hooks = BackEnd::start().await?;
        hooks.says_at("/rpc", r#"{"result": {"data": {"sum": 3}}}"#);
        let fleet = Fleet::builder()
            .gateways(0)
            .in_memory()
            .worker("http_api.listen", "127.0.0.1:0")
            .worker("http_api.key", KEY)
            .worker("rpc.proxy.enabled", true)
            .worker("rpc.proxy.endpoint", format!("{}/rpc", hooks.url()))
            .worker("http_api.body_size_limit", BODY_MAX as i64)
            .worker("channel.namespaces", vec![toml::Value::from(namespace)])
            .start()
            .await?;
        let mut clients = Vec::new();
        for (user, format) in [("ann", Json), ("bob", Protobuf)] {
            let dial = Dial::to(fleet.workers[0].url()).format(format);
            let mut client = dial.connect(&token::user(user)?).await?;
            client.subscribe(CHANNEL).await?;
            client.publish(CHANNEL, "{\"text\": \"hello\"}").await?;
            clients.push(client);
        }
        Ok(Self {
            fleet,
            document: serde_json::from_str(DOCUMENT)?,
            back_end: reqwest::Client::new(),
            _clients: clients,
            _hooks: hooks,
        })
    }

    /// Every documented method.
    fn operations(&self) -> Result<Vec<Operation<'_>>> {
        let paths = self.document["paths"].as_object().context("no paths")?;
        let operations = paths
            .iter()
            .map(|(path, item)| self.operation(path, &item["post"]));
        operations.collect()
    }

    fn operation<'a>(&'a self, path: &'a str, operation: &'a Value) -> Result<Operation<'a>> {
        let content = &operation["requestBody"]["content"]["application/json"];
        let examples = content["examples"].as_object().context("no examples")?;
        let answers = operation["responses"].as_object().context("no answers")?;
        Ok(Operation {
            path,
            request: self.resolve(&content["schema"]),
            examples: examples.values().map(|example| &example["value"]).collect(),
            answers: answers
                .iter()
                .map(|(status, answer)| (status.as_str(), self.resolve(answer)))
                .collect(),
        })
    }

    /// What a reference stands for; anything else is itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"]
            .as_str()
            .and_then(|text| text.strip_prefix('#'));
        pointer
            .and_then(|pointer| self.document.pointer(pointer))
            .unwrap_or(value)
    }

    /// What tells whether a value is as a schema of the document wants it.
    fn validator(&self, schema: &Value) -> Result<Validator> {
        let schema = json!({"allOf": [schema], "components": self.document["components"]});
        jsonschema::draft202012::new(&schema).map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn check(&self, what: &str, schema: &Value, value: &Value) -> Result<()> {
        let validator = self.validator(schema)?;
        let problems: Vec<_> = validator
            .iter_errors(value)
            .map(|error| error.to_string())
            .collect();
        ensure!(problems.is_empty(), "{what}: {problems:?} in {value}");
        Ok(())
    }

    /// Calls a method, and checks that the answer is one that is documented. Returns its status and body.
    async fn call(
        &self,
        operation: &Operation<'_>,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<(StatusCode, Value)> {
        let Operation { path, answers, .. } = operation;
        let api = self.fleet.workers[0].addresses().api.clone();
        let api = api.context("a worker does not say where its API is")?;
        let mut request = self.back_end.post(format!("http://{api}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.json(body).send().await?;
        let status = response.status();
        let kind = response.headers().get("content-type");
        let kind = kind.context("no content type")?.to_str()?.to_owned();
        let kind = kind.split(';').next().unwrap_or_default();
        let documented = answers
            .get(status.as_str())
            .or_else(|| answers.get("default"))
            .with_context(|| format!("{path} answers {status}"))?;
        let schema = &documented["content"][kind]["schema"];
        ensure!(!schema.is_null(), "{path} answers {status} with {kind}");
        let text = response.text().await?;
        let answer = match kind {
            "application/json" => serde_json::from_str(&text)?,
            _ => Value::from(text),
        };
        self.check(&format!("{path} answers to {body}"), schema, &answer)?;
        Ok((status, answer))
    }
}

/// Values that are none of this schema's; none if it takes everything.
fn of_another_kind(schema: &Value) -> Option<Value> {
    match schema["type"].as_str() {
        Some("string") => Some(json!(1)),
        Some(_) => Some(json!("text")),
        None => None,
    }
}

#[tokio::test]
async fn the_openapi_document_names_every_method_of_a_worker_and_no_other() -> Result<()> {
    let stage = Stage::new().await?;
    let documented: BTreeSet<_> = stage
        .operations()?
        .iter()
        .filter_map(|operation| operation.path.strip_prefix("/api/"))
        .map(str::to_owned)
        .collect();
    // It counts the calls of each method that it has.
    let metrics = Scrape::of(&stage.fleet.workers[0].addresses().admin).await?;
    let served: BTreeSet<_> = metrics
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("flotilla_worker_api_calls_total{method=\""))
        .filter_map(|line| line.split('"').next())
        .filter(|method| *method != "other")
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, served);
    Ok(())
}

#[tokio::test]
async fn every_example_of_the_openapi_document_is_answered_as_it_says() -> Result<()> {
    let stage = Stage::new().await?;
    let mut told = BTreeSet::new();
    for operation in stage.operations()? {
        let path = operation.path;
        ensure!(!operation.examples.is_empty(), "{path} has no example");
        for example in &operation.examples {
            stage.check(path, operation.request, example)?;
            let (status, answer) = stage
                .call(&operation, &[("X-API-Key", KEY)], example)
                .await?;
            ensure!(
                status == 200 && answer.get("error").is_none(),
                "{path}: {answer}"
            );
            // An empty list would not say what its elements look like.
            for list in [
                "publications",
                "presence",
                "channels",
                "connections",
                "nodes",
            ] {
                let length = match &answer["result"][list] {
                    Value::Array(elements) => elements.len(),
                    Value::Object(elements) => elements.len(),
                    _ => 0,
                };
                if length > 0 {
                    told.insert(list);
                }
            }
        }
    }
    ensure!(told.len() == 5, "only {told:?} were told of");
    Ok(())
}

#[tokio::test]
async fn every_field_of_the_openapi_document_is_read_and_mistakes_are_answered_as_it_says()
-> Result<()> {
    let stage = Stage::new().await?;
    let key = ("X-API-Key", KEY);
    let statuses = ("X-Centrifugo-Error-Mode", "transport");
    for operation in stage.operations()? {
        let path = operation.path;
        let empty = serde_json::Map::new();
        let fields = operation.request["properties"]
            .as_object()
            .unwrap_or(&empty);
        let example = operation.examples.first().context("no example")?;
        for (field, schema) in fields {
            let Some(wrong) = of_another_kind(stage.resolve(schema)) else {
                continue;
            };
            let mut body = (*example).clone();
            body[field] = wrong;
            let is_valid = stage.validator(operation.request)?.is_valid(&body);
            ensure!(!is_valid, "{path}: {body} is documented");
            let (status, answer) = stage.call(&operation, &[key], &body).await?;
            let code = &answer["error"]["code"];
            ensure!(status == 200 && code == 107, "{path}: {body}: {answer}");
            let (status, answer) = stage.call(&operation, &[key, statuses], &body).await?;
            ensure!(
                status == 400 && answer["code"] == 107,
                "{path}: {body}: {answer}"
            );
        }
        for field in operation.request["required"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let mut body = (*example).clone();
            let fields = body.as_object_mut().context("no object")?;
            fields.remove(field.as_str().unwrap_or_default());
            let (_, answer) = stage.call(&operation, &[key], &body).await?;
            ensure!(answer["error"]["code"] == 107, "{path}: {body}: {answer}");
        }
        let (status, _) = stage.call(&operation, &[], example).await?;
        ensure!(status == 401, "{path} without a key: {status}");
        let huge = json!("x".repeat(BODY_MAX));
        let (status, _) = stage.call(&operation, &[key], &huge).await?;
        ensure!(status == 413, "{path} with too much: {status}");
    }
    Ok(())
}
