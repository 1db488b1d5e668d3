//! `TaskerCore::Native::EventPublisher`: buffers the process's events for its listeners.
//!
//! Invariant: it belongs to the process that created it; a forked child creates another.

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use serde_json::{Map, Value as Json};
use tasker_orchestrator::events::Event;
use tasker_orchestrator::EventPublisher as Events;

use crate::configuration::Configuration;
use crate::entry::{function, method, ruby_method};
use crate::{errors, gvl, runtime};

#[magnus::wrap(class = "TaskerCore::Native::EventPublisher", free_immediately)]
pub struct EventPublisher {
    events: Events,
}

impl EventPublisher {
    /// `create(configuration)`
    fn create(configuration: &Configuration) -> Result<Self, Error> {
        Ok(Self { events: Events::new(configuration.settings().events.clone()) })
    }

    pub fn events(&self) -> &Events {
        &self.events
    }

    /// `register(name, durable)`: registers an event of the application.
    fn register(&self, name: String, durable: bool) -> Result<(), Error> {
        self.events.registry().register(&name, durable).map_err(|error| errors::exception(&error))
    }

    /// Whether a published event must be stored in the outbox.
    fn is_durable(&self, name: String) -> Result<bool, Error> {
        Ok(self.events.registry().is_durable(&name))
    }

    /// Like `resolve`, for the names that a durable subscription can have.
    fn resolve_durable(&self, pattern: String) -> Result<Vec<String>, Error> {
        let resolved = || self.events.registry().resolve_durable(&pattern);
        resolved().map_err(|error| errors::exception(&error))
    }

    /// The names that match a pattern.
    fn resolve(&self, pattern: String) -> Result<Vec<String>, Error> {
        self.events.registry().resolve(&pattern).map_err(|error| errors::exception(&error))
    }

    /// `verify_filter(patterns, fields)`: fails if none of the events has one of the fields.
    fn verify_filter(&self, patterns: Vec<String>, fields: Vec<String>) -> Result<(), Error> {
        self.events.registry().verify_filter(&patterns, &fields).map_err(|error| errors::exception(&error))
    }

    /// Replaces the patterns of events with a listener.
    fn set_interests(&self, patterns: Vec<String>) -> Result<(), Error> {
        self.events.set_interests(&patterns).map_err(|error| errors::exception(&error))
    }

    fn is_interested(&self, name: String) -> Result<bool, Error> {
        Ok(self.events.is_interested(&name))
    }

    /// Whether any event whose name begins with `prefix` has a listener.
    fn is_interested_in_any(&self, prefix: String) -> Result<bool, Error> {
        Ok(self.events.is_interested_in_any(&prefix))
    }

    /// `publish(name, correlation_id, payload, at_once)`: the payload is the JSON text of an object. Waits for room if
    /// the settings say so, unless `at_once`.
    fn publish(
        &self,
        name: String,
        correlation_id: Option<String>,
        payload: String,
        at_once: bool,
    ) -> Result<(), Error> {
        let payload: Map<String, Json> = serde_json::from_str(&payload)
            .map_err(|error| errors::internal(&format!("the payload cannot be read: {error}")))?;
        let correlation_id = correlation_id
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| errors::internal(&format!("the correlation id is not a UUID: {error}")))?;
        let event = Event::new(&name, correlation_id, payload);
        let published = if at_once {
            self.events.publish_at_once(event)
        } else {
            gvl::wait(runtime::current()?, self.events.publish(event))?
        };
        published.map_err(|error| errors::exception(&error))
    }

    /// The next batch as the JSON text of an array, or nil once closed and empty.
    fn next_batch(&self) -> Result<Option<String>, Error> {
        let batch = gvl::wait(runtime::current()?, self.events.next_batch())?;
        batch
            .map(|batch| serde_json::to_string(&batch).map_err(|error| errors::internal(&error.to_string())))
            .transpose()
    }

    fn close(&self) -> Result<(), Error> {
        self.events.close();
        Ok(())
    }

    fn stats(ruby: &Ruby, rb_self: &Self) -> Result<Value, Error> {
        serde_magnus::serialize(ruby, &rb_self.events.stats())
    }
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("EventPublisher", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("create", function!(EventPublisher::create, 1))?;
    class.define_method("register", method!(EventPublisher::register, 2))?;
    class.define_method("durable?", method!(EventPublisher::is_durable, 1))?;
    class.define_method("resolve_durable", method!(EventPublisher::resolve_durable, 1))?;
    class.define_method("resolve", method!(EventPublisher::resolve, 1))?;
    class.define_method("verify_filter", method!(EventPublisher::verify_filter, 2))?;
    class.define_method("set_interests", method!(EventPublisher::set_interests, 1))?;
    class.define_method("interested?", method!(EventPublisher::is_interested, 1))?;
    class.define_method("interested_in_any?", method!(EventPublisher::is_interested_in_any, 1))?;
    class.define_method("publish", method!(EventPublisher::publish, 4))?;
    class.define_method("next_batch", method!(EventPublisher::next_batch, 0))?;
    class.define_method("close", method!(EventPublisher::close, 0))?;
    class.define_method("stats", ruby_method!(EventPublisher::stats, 0))
}
