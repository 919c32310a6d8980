//! Telemetry and its logs.

use std::sync::Arc;

use derms_proto::link::{LogKind, Report, SetpointPhase};
use derms_proto::{
    AssetId, Availability, ControlSource, Detail, DispatchStatus, Heartbeat, LogId, Power,
    Timestamp,
};

use super::super::{HistoryQuery, Store, TelemetryAppend, TelemetryQuery, time_of};
use super::Broken;
use super::kit::*;

sentences! {
    "what is below a log's cursor is settled: it is stored once" => stored_once,
    "parts that come at the same time are stored once" => stored_once_at_the_same_time,
    "the cursor of a log is the first number that is not stored" => cursors,
    "declared gaps are kept, oldest first, and of a gap below the cursor the rest" => gaps_kept,
    "the latest measurement is the last measured, not the last received" => latest_measured,
    "a measurement from the future is placed at its receipt" => future_hides_nothing,
    "no text that an agent sends makes a call fail" => any_text,
    "no time and no counter that an agent tells makes a call fail" => any_number,
    "buckets are aligned to 1970 and count what is in the range" => buckets_aligned,
}

async fn numbers(store: &Arc<dyn Store>, asset: AssetId) -> Result<Vec<u64>, Broken> {
    let query = TelemetryQuery::new(asset, HistoryQuery::default());
    let rows = store.telemetry(&query).await?.items;
    let number = |mw: derms_proto::Power| mw.mw() as u64;
    Ok(rows
        .iter()
        .rev()
        .filter_map(|row| row.measurements.mw.map(number))
        .collect())
}

async fn stored_once(store: Arc<dyn Store>) -> Checked {
    let (agent, log, asset) = (new_agent(), LogId::generate(), new_asset());
    let (first, overlap) = (
        samples(agent, log, asset, 1..4),
        samples(agent, log, asset, 2..6),
    );
    store.append_telemetry(std::slice::from_ref(&first)).await?;
    store
        .append_telemetry(&[first.clone(), overlap.clone(), overlap])
        .await?;
    // Number 6 was refused: it is settled although nothing is stored of it.
    let refused = TelemetryAppend {
        samples: Vec::new(),
        next_seq: 7,
        ..first
    };
    store
        .append_telemetry(&[refused, samples(agent, log, asset, 6..8)])
        .await?;
    same(
        "stored numbers",
        &numbers(&store, asset).await?,
        &vec![1, 2, 3, 4, 5, 7],
    )?;
    // Another log, and the same log of another agent, are other numbers.
    let other = new_asset();
    let others = [
        samples(agent, LogId::generate(), other, 1..3),
        samples(new_agent(), log, other, 1..3),
    ];
    store.append_telemetry(&others).await?;
    same(
        "numbers of other logs",
        &numbers(&store, other).await?,
        &vec![1, 1, 2, 2],
    )
}

async fn stored_once_at_the_same_time(store: Arc<dyn Store>) -> Checked {
    let (agent, log, asset) = (new_agent(), LogId::generate(), new_asset());
    at_once((0..16).map(|_| {
        let (store, part) = (Arc::clone(&store), samples(agent, log, asset, 1..9));
        async move { store.append_telemetry(&[part]).await }
    }))
    .await?;
    same(
        "stored numbers",
        &numbers(&store, asset).await?,
        &(1..9).collect(),
    )
}

async fn cursors(store: Arc<dyn Store>) -> Checked {
    let (agent, log, asset) = (new_agent(), LogId::generate(), new_asset());
    let cursor = async |kind, log| store.log_cursor(agent, kind, log).await;
    same(
        "an unknown log",
        &cursor(LogKind::Telemetry, log).await?,
        &None,
    )?;
    let part = samples(agent, log, asset, 1..4);
    store.append_telemetry(std::slice::from_ref(&part)).await?;
    same(
        "after 1 to 3",
        &cursor(LogKind::Telemetry, log).await?,
        &Some(4),
    )?;
    store
        .append_telemetry(&[samples(agent, log, asset, 4..9), part])
        .await?;
    same(
        "after 4 to 8 and 1 to 3 again",
        &cursor(LogKind::Telemetry, log).await?,
        &Some(9),
    )?;
    same(
        "the other kind",
        &cursor(LogKind::Report, log).await?,
        &None,
    )?;
    same(
        "another log",
        &cursor(LogKind::Telemetry, LogId::generate()).await?,
        &None,
    )?;
    let other = store
        .log_cursor(new_agent(), LogKind::Telemetry, log)
        .await?;
    same("another agent", &other, &None)?;

    let carrier = session(&store, agent).await?;
    let log = LogId::generate();
    let append = reports(carrier, log, vec![event(asset, 1), event(asset, 2)]);
    store.append_reports(&[append]).await?;
    same(
        "a report log",
        &cursor(LogKind::Report, log).await?,
        &Some(3),
    )?;
    same(
        "its number as telemetry",
        &cursor(LogKind::Telemetry, log).await?,
        &None,
    )
}

async fn gaps_kept(store: Arc<dyn Store>) -> Checked {
    let (agent, log, asset) = (new_agent(), LogId::generate(), new_asset());
    let with_gaps = |seqs, gaps| TelemetryAppend {
        gaps,
        ..samples(agent, log, asset, seqs)
    };
    let first = with_gaps(4..6, vec![gap(1, 3)]);
    store.append_telemetry(std::slice::from_ref(&first)).await?;
    store.append_telemetry(&[first]).await?;
    // Its agent lost 4 to 9 while 4 and 5 were on their way.
    store
        .append_telemetry(&[with_gaps(10..11, vec![gap(4, 9)])])
        .await?;
    let wanted = vec![(log, gap(1, 3)), (log, gap(6, 9))];
    same("gaps", &store.gaps(agent).await?, &wanted)?;
    same(
        "gaps of another agent",
        &store.gaps(new_agent()).await?,
        &Vec::new(),
    )
}

async fn latest_measured(store: Arc<dyn Store>) -> Checked {
    let (agent, log) = (new_agent(), LogId::generate());
    let (asset, other) = (new_asset(), new_asset());
    let newest = measured(asset, 50, 60, 1.0);
    let append = TelemetryAppend {
        agent,
        log,
        samples: vec![
            (1, measured(asset, 10, 59, 2.0)),
            (2, newest.clone()),
            (3, measured(asset, 20, 61, 3.0)),
            (4, measured(other, 5, 62, 4.0)),
        ],
        gaps: Vec::new(),
        next_seq: 5,
    };
    store.append_telemetry(&[append]).await?;
    let mut latest = store.latest_telemetry().await?;
    latest.sort_by_key(|telemetry| telemetry.measured_at);
    same(
        "the latest",
        &latest,
        &vec![measured(other, 5, 62, 4.0), newest],
    )
}

async fn future_hides_nothing(store: Arc<dyn Store>) -> Checked {
    let asset = new_asset();
    let (wrong, right) = (
        measured(asset, 9_000, 10, 1.0),
        measured(asset, 20, 21, 2.0),
    );
    let append = TelemetryAppend {
        agent: new_agent(),
        log: LogId::generate(),
        samples: vec![(1, wrong.clone()), (2, right.clone())],
        gaps: Vec::new(),
        next_seq: 3,
    };
    store.append_telemetry(&[append]).await?;
    same(
        "the latest",
        &store.latest_telemetry().await?,
        &vec![right.clone()],
    )?;
    let page = HistoryQuery {
        from: at(0),
        to: at(100),
        ..HistoryQuery::default()
    };
    let rows = store
        .telemetry(&TelemetryQuery::new(asset, page))
        .await?
        .items;
    same("history", &rows, &vec![right, wrong.clone()])?;
    same("its time", &time_of(&wrong), &at(10))
}

async fn buckets_aligned(store: Arc<dyn Store>) -> Checked {
    let (agent, log, asset) = (new_agent(), LogId::generate(), new_asset());
    // at(0) is 20 s into a minute.
    store
        .append_telemetry(&[samples(agent, log, asset, 1..100)])
        .await?;
    let page = HistoryQuery {
        from: at(5),
        to: at(90),
        ..HistoryQuery::default()
    };
    let buckets = store
        .telemetry_buckets(&TelemetryQuery::new(asset, page), 60)
        .await?;
    same("the cursor of the last page", &buckets.next_cursor, &None)?;
    // Newest first: 40 to 89 (of 40 to 99), 5 to 39.
    let found: Vec<(Timestamp, Timestamp, u64)> = buckets
        .items
        .iter()
        .map(|b| (b.from, b.to, b.count))
        .collect();
    let minute = |start_s: i64| {
        let from = Timestamp::from_unix_micros(at(0).unix_micros() + start_s * 1_000_000);
        (
            from,
            from.saturating_add(std::time::Duration::from_secs(60)),
        )
    };
    let wanted = [(40, 50), (-20, 35)].map(|(start, count)| {
        let (from, to) = minute(start);
        (from, to, count)
    });
    same("buckets", &found, &wanted.to_vec())?;
    let mw: Vec<_> = buckets
        .items
        .iter()
        .filter_map(|bucket| bucket.mw)
        .collect();
    let mw: Vec<_> = mw.iter().map(|mw| (mw.min, mw.mean, mw.max)).collect();
    same(
        "their power",
        &mw,
        &vec![(40.0, 64.5, 89.0), (5.0, 22.0, 39.0)],
    )?;
    ensure!(
        buckets
            .items
            .iter()
            .all(|bucket| bucket.soc_pct.is_none() && bucket.asset_id == asset),
        "a value that was never measured is in a bucket"
    );
    Ok(())
}

async fn any_text(store: Arc<dyn Store>) -> Checked {
    let (agent, asset) = (new_agent(), new_asset());
    for text in [
        "",
        "\0",
        "a\0b",
        "' \" ; --",
        "\u{feff}\u{202e}ünïcödé 🔋\r\n",
        "%s {} \\",
    ] {
        let carrier = session(&store, agent).await?;
        let mut append = samples(agent, LogId::generate(), asset, 1..2);
        let details = &mut append.samples[0].1.measurements.details;
        details.insert(text.to_owned(), Detail::Text(text.to_owned()));
        store.append_telemetry(&[append]).await?;
        let mut entry = event(asset, 1);
        if let Report::Event(event) = &mut entry.entry.report {
            event.code = text.to_owned();
            event.text = text.to_owned();
        }
        report(&store, carrier, entry).await?;
        let order = sent(&store, carrier).await?;
        let mut entry = says(&order, 2, SetpointPhase::Rejected);
        if let Report::Setpoint(report) = &mut entry.entry.report {
            report.text = Some(text.to_owned());
        }
        report(&store, carrier, entry).await?;
        let status = stored(&store, order.id).await?.status;
        same("the order", &status, &DispatchStatus::Rejected)?;
        let mut began = record(agent, at(0));
        began.agent_version = Some(text.to_owned());
        let epoch = store.open_session(&began, 0).await?;
        store.close_session(agent, epoch, &end(1, text)).await?;
    }
    same("measurements", &numbers(&store, asset).await?.len(), &6)
}

async fn any_number(store: Arc<dyn Store>) -> Checked {
    let (agent, asset) = (new_agent(), new_asset());
    for time in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let mut append = samples(agent, LogId::generate(), asset, 1..2);
        append.samples[0].1.measured_at = time;
        append.samples[0].1.measurements.mw = Some(Power::from_mw(f64::MAX));
        append.samples[0].1.measurements.soc_pct = Some(5e-324);
        store.append_telemetry(&[append]).await?;
        let beat = Heartbeat {
            asset_id: asset,
            agent_id: agent,
            epoch: 1,
            received_at: at(1),
            agent_time: Some(time),
            uptime_s: Some(f64::MAX),
            outbox_depth: u64::MAX,
            dropped_samples: u64::MAX,
            availability: Availability::default(),
            control: ControlSource::default(),
            control_mw: Some(Power::from_mw(f64::MIN)),
            read_errors: u64::MAX,
        };
        store.append_heartbeats(&[beat]).await?;
        let carrier = session(&store, agent).await?;
        let mut entry = event(asset, 1);
        entry.entry.at = time;
        report(&store, carrier, entry).await?;
        let order = sent(&store, carrier).await?;
        let mut entry = says(&order, 1, SetpointPhase::Started);
        entry.entry.at = time;
        if let Report::Setpoint(report) = &mut entry.entry.report {
            report.revision = u64::MAX;
        }
        report(&store, carrier, entry).await?;
        let told = stored(&store, order.id).await?;
        let told = told.transitions.last().and_then(|step| step.reported_at);
        same("when the agent says it was", &told, &Some(time))?;
    }
    let query = TelemetryQuery::new(asset, HistoryQuery::default());
    let times = store.telemetry(&query).await?.items;
    let times: Vec<_> = times.iter().map(|row| row.measured_at).collect();
    // The one from the future stands where it was received.
    let wanted = vec![Timestamp::MAX, Timestamp::UNIX_EPOCH, Timestamp::MIN];
    same("times of measurement", &times, &wanted)?;
    for step_s in [1, 900, u64::MAX] {
        let buckets = store.telemetry_buckets(&query, step_s).await?.items;
        let count: u64 = buckets.iter().map(|bucket| bucket.count).sum();
        same("measurements in buckets", &count, &3)?;
    }
    same(
        "heartbeats",
        &store
            .heartbeats(asset, &HistoryQuery::default())
            .await?
            .items
            .len(),
        &1,
    )
}
