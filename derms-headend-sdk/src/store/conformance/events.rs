//! Alarms and changes of state.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::{
    Acknowledgement, Event, EventId, EventSource, LogId, Severity, SiteId, Timestamp,
};
use uuid::Uuid;

use super::super::{EventQuery, ReportFate, Retention, Store};
use super::Broken;
use super::kit::*;

sentences! {
    "an event of a report is stored once, with its log, and read as it was given" => told,
    "an event of the headend is read as it was given, and once" => raised,
    "events come in pages, newest first" => pages,
    "events are found by what they are" => filters,
    "the first acknowledgement of an event stays" => acknowledged,
    "events are forgotten in their time" => forgotten,
}

/// An event of the headend about nothing in particular.
fn raised_at(second: u64) -> Event {
    Event {
        id: EventId::generate(),
        at: at(second),
        received_at: at(second + 1),
        asset_id: None,
        site_id: None,
        agent_id: None,
        severity: Severity::Info,
        code: "for_a_test".to_owned(),
        text: String::new(),
        source: EventSource::Headend,
        acknowledged: None,
    }
}

async fn all(store: &Arc<dyn Store>) -> Result<Vec<Event>, Broken> {
    Ok(store.events(&EventQuery::default()).await?.items)
}

async fn told(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let (log, asset) = (LogId::generate(), new_asset());
    let (first, second) = (event(asset, 1), event(asset, 2));
    let is = |fates: &[Vec<ReportFate>], wanted: &[&super::super::StoredReport]| {
        let wanted = wanted.iter().filter_map(|it| it.event.clone());
        let wanted = wanted.map(ReportFate::Event).collect();
        same("the fates", &fates.to_vec(), &vec![wanted])
    };
    let part = reports(carrier, log, vec![first.clone(), second.clone()]);
    is(&store.append_reports(&[part]).await?, &[&first, &second])?;
    // The agent did not hear of it, and the headend gave them other ids when they came again.
    let (again, third) = (event(asset, 2), event(asset, 3));
    let part = reports(carrier, log, vec![event(asset, 1), again, third.clone()]);
    is(&store.append_reports(&[part]).await?, &[&third])?;
    let expected: Vec<Event> = [third, second, first]
        .into_iter()
        .filter_map(|it| it.event.map(|event| *event))
        .collect();
    same("the events", &all(&store).await?, &expected)?;
    let one = store.event(expected[0].id).await?;
    same("one of them", &one.as_ref(), &expected.first())
}

async fn raised(store: Arc<dyn Store>) -> Checked {
    let whole = Event {
        asset_id: Some(new_asset()),
        site_id: Some(SiteId::new(Uuid::new_v4())),
        agent_id: Some(new_agent()),
        severity: Severity::Critical,
        code: "x".repeat(128),
        text: "y".repeat(1_024),
        acknowledged: Some(Acknowledgement {
            at: at(9),
            by: Some("ann".to_owned()),
            note: Some("seen".to_owned()),
        }),
        ..raised_at(1)
    };
    let bare = raised_at(0);
    let both = [whole.clone(), bare.clone()];
    store.append_events(&both).await?;
    let other = Event {
        text: "other".to_owned(),
        acknowledged: None,
        ..whole.clone()
    };
    store.append_events(&[other]).await?;
    same("the events", &all(&store).await?, &both.to_vec())?;
    same("one", &store.event(whole.id).await?, &Some(whole))?;
    same("none", &store.event(EventId::generate()).await?, &None)?;
    let odd = Event {
        code: "nul\0".to_owned(),
        text: "nul\0".to_owned(),
        ..raised_at(2)
    };
    store.append_events(&[odd]).await?;
    same("how many there are", &all(&store).await?.len(), &3)
}

async fn pages(store: Arc<dyn Store>) -> Checked {
    // Two of each second.
    let mut events: Vec<_> = (0..10).map(|n| raised_at(n / 2)).collect();
    store.append_events(&events).await?;
    events.sort_by_key(|event| std::cmp::Reverse((event.at, event.id)));
    let mut query = EventQuery::default();
    (query.page.from, query.page.to, query.page.limit) = (at(1), at(4), 4);
    let first = store.events(&query).await?;
    same("the first page", &first.items, &events[2..6].to_vec())?;
    query.page.cursor = first.next_cursor;
    ensure!(query.page.cursor.is_some(), "there is no second page");
    let second = store.events(&query).await?;
    same("the second page", &second.items, &events[6..8].to_vec())?;
    same("its cursor", &second.next_cursor, &None)?;
    let wrong = store.stops(&query.page).await;
    ensure!(
        matches!(wrong, Err(super::super::StoreError::InvalidCursor)),
        "a cursor of the events was answered {wrong:?} in the list of stops"
    );
    Ok(())
}

async fn filters(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), SiteId::new(Uuid::new_v4()));
    let mut events: Vec<Event> = Severity::ALL
        .into_iter()
        .zip(1..)
        .map(|(severity, second)| Event {
            severity,
            ..raised_at(second)
        })
        .collect();
    events[0].asset_id = Some(asset);
    events[1].asset_id = Some(asset);
    events[1].site_id = Some(site);
    events[2].site_id = Some(site);
    events[3].source = EventSource::Agent;
    store.append_events(&events).await?;
    store.acknowledge(events[2].id, &noted(at(20))).await?;
    let found = async |change: fn(&mut EventQuery, (derms_proto::AssetId, SiteId))| {
        let mut query = EventQuery::default();
        change(&mut query, (asset, site));
        let found = store.events(&query).await?.items;
        let place = |event: &Event| events.iter().position(|it| it.id == event.id);
        let mut places: Vec<_> = found.iter().filter_map(place).collect();
        places.sort_unstable();
        Ok::<_, Broken>(places)
    };
    let of_asset = found(|query, (asset, _)| query.asset = Some(asset)).await?;
    same("those of an asset", &of_asset, &vec![0, 1])?;
    let of_site = found(|query, (_, site)| query.site = Some(site)).await?;
    same("those of a site", &of_site, &vec![1, 2])?;
    let least = found(|query, _| query.least = Some(Severity::Alarm)).await?;
    same("alarms and above", &least, &vec![2, 3])?;
    let open = found(|query, _| query.acknowledged = Some(false)).await?;
    same("those that nobody has noted", &open, &vec![0, 1, 3])?;
    let noted = found(|query, _| query.acknowledged = Some(true)).await?;
    same("those that somebody has noted", &noted, &vec![2])?;
    let told = found(|query, _| query.source = Some(EventSource::Agent)).await?;
    same("those of agents", &told, &vec![3])?;
    let several = found(|query, (asset, site)| {
        (query.asset, query.site) = (Some(asset), Some(site));
        query.least = Some(Severity::Warning);
    });
    same("those that are all of it", &several.await?, &vec![1])
}

fn noted(at: Timestamp) -> Acknowledgement {
    Acknowledgement {
        at,
        by: Some("ann".to_owned()),
        note: None,
    }
}

async fn acknowledged(store: Arc<dyn Store>) -> Checked {
    let event = raised_at(1);
    store.append_events(std::slice::from_ref(&event)).await?;
    let first = noted(at(5));
    let expected = Some(Event {
        acknowledged: Some(first.clone()),
        ..event.clone()
    });
    let answer = store.acknowledge(event.id, &first).await?;
    same("the answer", &answer, &expected)?;
    let later = Acknowledgement {
        at: at(6),
        by: None,
        note: Some("late".to_owned()),
    };
    let answer = store.acknowledge(event.id, &later).await?;
    same("the answer to a later one", &answer, &expected)?;
    same("what is read", &store.event(event.id).await?, &expected)?;
    let unknown = store.acknowledge(EventId::generate(), &first).await?;
    same("the answer for an unknown one", &unknown, &None)
}

async fn forgotten(store: Arc<dyn Store>) -> Checked {
    let events = [10, 60, 110].map(raised_at);
    store.append_events(&events).await?;
    let mut retention = Retention::forever();
    store.prune(&retention, at(1_000_000)).await?;
    same("what is kept for ever", &all(&store).await?.len(), &3)?;
    retention.events = Some(Duration::from_secs(100));
    let pruned = store.prune(&retention, at(210)).await?;
    same("how many were forgotten", &pruned.events, &2)?;
    let gone = store.event(events[0].id).await?;
    same("one that was forgotten", &gone, &None)?;
    same("what is left", &all(&store).await?, &events[2..].to_vec())
}
