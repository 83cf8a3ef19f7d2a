//! `/v1/events`: streams events as they are reported.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{BroadcastStream, errors::BroadcastStreamRecvError},
};

use super::{
    places::{Holder, Place},
    query::{Query, Shape},
    response::error,
    state::State,
};
use crate::state::AgentState;
use fdwatch_core::{filter::Filter, plural::counted};
use fdwatch_events::{
    Event, Started,
    wire::{Dropped, Object, Wire},
};
use fdwatch_render::{Format, Reporter, json_line};

/// Interval of keep-alive comments, by which each end detects that the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Returns a response with the events that match `query`, which ends only if the client reads too slowly.
pub(super) fn events(state: &State, query: Query, holder: Holder) -> Response {
    let Some(place) = state.readers.take(holder) else {
        AgentState::count(&state.shared.api.refused);
        let reason = "too many readers of events: retry later";
        return error(StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    };
    AgentState::count(&state.shared.api.readers);
    let slot = ReaderSlot {
        shared: Arc::clone(&state.shared),
        _place: place,
    };
    // Subscribes before it reads the active findings, so that no event is missed. Events that these include are
    // skipped below.
    let live = BroadcastStream::new(state.shared.events.subscribe());
    let current = if query.current {
        state.shared.active()
    } else {
        Vec::new()
    };
    let newest = current.iter().map(|active| active.last.number).max();
    let newest = newest.unwrap_or(0);
    let current = current.into_iter().map(|active| Ok(active.last));
    let live = live.filter(move |item| match item {
        Ok(event) => event.number > newest || !query.current,
        Err(_) => true,
    });
    let Query { shape, filter, .. } = query;
    let reader = Reader {
        filter,
        slot,
        is_dropped: false,
    };
    let items = tokio_stream::iter(current).chain(live);
    let items = reader.take(items);
    match shape {
        Shape::Json => {
            let events = items.map(|item| Ok::<_, Infallible>(as_sse(&item)));
            let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
            Sse::new(events).keep_alive(keep_alive).into_response()
        }
        Shape::Lines | Shape::Text => {
            let mut writer = Writer {
                shape,
                wire: state.wire().clone(),
            };
            let mut first = Vec::new();
            if shape == Shape::Lines {
                let view = state.shared.view();
                let line = writer.wire.line(&Started(&view.stats), view.at);
                first = json_line(&line).unwrap_or_default().into_bytes();
            }
            let bytes = items.map(move |item| writer.write(&item));
            let bytes = tokio_stream::once(first).chain(bytes);
            let bytes = bytes.map(Ok::<_, Infallible>);
            let kind = if shape == Shape::Lines {
                "application/x-ndjson"
            } else {
                "text/plain; charset=utf-8"
            };
            let mut response = Body::from_stream(bytes).into_response();
            let kind = HeaderValue::from_static(kind);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
    }
}

/// An item of the stream.
enum Item {
    Event(Arc<Event>),
    /// The reader was too slow and missed this many events. The last item.
    Dropped(u64),
}

struct Reader {
    filter: Filter,
    slot: ReaderSlot,
    is_dropped: bool,
}

impl Reader {
    fn take(
        mut self,
        items: impl Stream<Item = Result<Arc<Event>, BroadcastStreamRecvError>>,
    ) -> impl Stream<Item = Item> {
        let items = items.map_while(move |item| {
            if self.is_dropped {
                return None;
            }
            Some(match item {
                Ok(event) if event.kind.is_wanted(&self.filter) => Some(Item::Event(event)),
                Ok(_) => None,
                Err(BroadcastStreamRecvError::Lagged(missed)) => {
                    self.is_dropped = true;
                    AgentState::count(&self.slot.shared.api.slow_readers);
                    Some(Item::Dropped(missed))
                }
            })
        });
        items.filter_map(|item| item)
    }
}

/// The place of a reader, which is released on drop.
struct ReaderSlot {
    shared: Arc<AgentState>,
    _place: Place,
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        self.shared.api.readers.fetch_sub(1, Relaxed);
    }
}

fn as_sse(item: &Item) -> sse::Event {
    match item {
        Item::Event(event) => sse::Event::default()
            .id(event.number.to_string())
            .event(event.kind.kind())
            .data(&event.json),
        Item::Dropped(missed) => sse::Event::default()
            .event("dropped")
            .data(dropped(*missed).trim_end()),
    }
}

/// Returns the last line for a client that is too slow.
fn dropped(missed: u64) -> String {
    // The object contains only numbers, so this cannot fail.
    json_line(&Object::new(Dropped { missed })).unwrap_or_default()
}

struct Writer {
    shape: Shape,
    wire: Wire,
}

impl Writer {
    fn write(&mut self, item: &Item) -> Vec<u8> {
        match (item, self.shape) {
            (Item::Event(event), Shape::Text) => {
                self.wire.clock.adjust(event.wall_time, event.at.0);
                let mut reporter = Reporter::new(Vec::new(), Format::Text, self.wire.clone());
                // Writing to memory does not fail.
                let _ = reporter.event(&event.kind, event.at);
                reporter.into_output()
            }
            (Item::Event(event), _) => [event.json.as_bytes(), b"\n"].concat(),
            (Item::Dropped(missed), Shape::Text) => format!(
                "fdwatch: reader too slow: missed {}; the stream ends\n",
                counted(*missed, "event")
            )
            .into_bytes(),
            (Item::Dropped(missed), _) => dropped(*missed).into_bytes(),
        }
    }
}
