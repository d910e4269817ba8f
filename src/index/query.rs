//! Flows into the database and out again.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::table::{FlowTable, Share};
use crate::packet::flow::{Direction, Endpoint};
use crate::time::Timestamp;

/// The most flows of one answer.
const LIMIT_MAX: u32 = 1000;
/// The most words of a query; further ones are not looked at.
const WORDS_MAX: usize = 8;
/// Stands for packets that belong to no flow of their own.
const OTHER: &str = "other";

/// A flow as the API has it (docs/API.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The interface.
    pub interface: String,
    /// `tcp`, `udp`, `icmp`, `arp`, `ip-99`; `other` for all packets that belong to no flow.
    pub protocol: String,
    /// The side that sent the first packet; empty for `other`.
    pub src: String,
    /// Its port.
    pub src_port: Option<u16>,
    /// The other side.
    pub dst: String,
    /// Its port.
    pub dst_port: Option<u16>,
    /// The first packet.
    pub first: Timestamp,
    /// The last packet.
    pub last: Timestamp,
    /// Packets from `src` to `dst`.
    pub packets_to: u64,
    /// Packets from `dst` to `src`.
    pub packets_back: u64,
    /// Bytes on the wire from `src` to `dst`.
    pub bytes_to: u64,
    /// Bytes on the wire from `dst` to `src`.
    pub bytes_back: u64,
    /// The flags seen, in the order `SAFPRUEC`.
    pub tcp_flags: String,
    /// SYNs that nothing answered.
    pub syn_unanswered: u64,
    /// RSTs, both directions.
    pub rst: u64,
    /// Segments sent again, both directions.
    pub retransmissions: u64,
}

/// What flows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowSort {
    /// The first packet.
    First,
    /// The last packet.
    Last,
    /// Packets, both directions.
    #[default]
    Packets,
    /// Bytes, both directions.
    Bytes,
    /// Unanswered SYNs.
    SynUnanswered,
    /// RSTs.
    Rst,
    /// Retransmissions.
    Retransmissions,
}

impl FlowSort {
    fn sql(self) -> &'static str {
        match self {
            Self::First => "first_ns",
            Self::Last => "last_ns",
            Self::Packets => "packets_to + packets_back",
            Self::Bytes => "bytes_to + bytes_back",
            Self::SynUnanswered => "syn_unanswered",
            Self::Rst => "rst",
            Self::Retransmissions => "retransmissions",
        }
    }
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortOrder {
    /// The smallest first.
    Asc,
    /// The largest first.
    #[default]
    Desc,
}

/// Which flows are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowQuery {
    /// Words that must all match: part of an address, a port, the beginning of a protocol.
    pub q: String,
    /// What to sort by.
    pub sort: FlowSort,
    /// Which end first.
    pub order: SortOrder,
    /// At most so many, 1000 at most.
    pub limit: u32,
    /// How many to leave out before them.
    pub offset: u32,
}

impl Default for FlowQuery {
    fn default() -> Self {
        Self {
            q: String::new(),
            sort: FlowSort::default(),
            order: SortOrder::default(),
            limit: 100,
            offset: 0,
        }
    }
}

/// A part of an incident's flows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FlowPage {
    /// Flows that match, on all pages.
    pub total: u64,
    /// Whether the incident is indexed at all.
    pub indexed: bool,
    /// The flows of this page.
    pub flows: Vec<Flow>,
}

/// SQLite's integers are signed.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Writes a table's flows.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    incident: i64,
    interface: &str,
    table: &FlowTable,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "INSERT INTO flow VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
         ?15, ?16, ?17)",
    )?;
    let mut row = |names: Names<'_>, share: &Share, trouble: Trouble<'_>| {
        let [packets_to, packets_back] = share.packets.map(stored);
        let [bytes_to, bytes_back] = share.bytes.map(stored);
        statement.execute(params![
            incident,
            interface,
            names.protocol,
            names.src,
            names.src_port,
            names.dst,
            names.dst_port,
            stored(share.first.as_ns()),
            stored(share.last.as_ns()),
            packets_to,
            packets_back,
            bytes_to,
            bytes_back,
            trouble.flags,
            trouble.syn_unanswered,
            trouble.rst,
            trouble.retransmissions,
        ])
    };
    for (key, flow) in table.flows() {
        let (src, dst): (Endpoint, Endpoint) = match flow.forward {
            Direction::Up => (key.low, key.high),
            Direction::Down => (key.high, key.low),
        };
        let (protocol, from, to) = (
            key.protocol.to_string(),
            src.addr.to_string(),
            dst.addr.to_string(),
        );
        let names = Names {
            protocol: &protocol,
            src: &from,
            src_port: src.port,
            dst: &to,
            dst_port: dst.port,
        };
        let flags = flow
            .tcp
            .as_ref()
            .map(|tcp| tcp.flags.to_string())
            .unwrap_or_default();
        let trouble = flow.tcp.as_ref().map(|tcp| Trouble {
            flags: &flags,
            syn_unanswered: tcp.syns_unanswered(),
            rst: tcp.rst,
            retransmissions: tcp.retransmissions,
        });
        row(names, &flow.share, trouble.unwrap_or_default())?;
    }
    if table.other().packets() > 0 {
        let names = Names {
            protocol: OTHER,
            ..Names::default()
        };
        row(names, table.other(), Trouble::default())?;
    }
    Ok(())
}

#[derive(Default)]
struct Names<'a> {
    protocol: &'a str,
    src: &'a str,
    src_port: Option<u16>,
    dst: &'a str,
    dst_port: Option<u16>,
}

#[derive(Default)]
struct Trouble<'a> {
    flags: &'a str,
    syn_unanswered: u32,
    rst: u32,
    retransmissions: u32,
}

/// Reads a page of an incident's flows.
pub(super) fn page(reader: &Connection, id: &str, query: &FlowQuery) -> rusqlite::Result<FlowPage> {
    let incident: Option<i64> = reader
        .query_row("SELECT number FROM incident WHERE id = ?1", [id], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(incident) = incident else {
        return Ok(FlowPage::default());
    };
    let (condition, mut values) = condition(incident, &query.q);
    let total: u64 = reader.query_row(
        &format!("SELECT count(*) FROM flow WHERE {condition}"),
        params_from_iter(&values),
        |row| row.get(0).map(unsigned),
    )?;
    let order = match query.order {
        SortOrder::Asc => "ASC",
        SortOrder::Desc => "DESC",
    };
    // Only words of our own are put into the text; what was asked for is bound.
    let sql = format!(
        "SELECT * FROM flow WHERE {condition} ORDER BY {} {order}, rowid LIMIT ? OFFSET ?",
        query.sort.sql()
    );
    values.push(Value::Integer(query.limit.clamp(1, LIMIT_MAX).into()));
    values.push(Value::Integer(query.offset.into()));
    let mut statement = reader.prepare(&sql)?;
    let flows = statement
        .query_map(params_from_iter(&values), flow)?
        .collect::<Result<_, _>>()?;
    Ok(FlowPage {
        total,
        indexed: true,
        flows,
    })
}

/// The WHERE clause with its values, for plain `?` placeholders.
fn condition(incident: i64, q: &str) -> (String, Vec<Value>) {
    let mut sql = "incident = ?".to_owned();
    let mut values = vec![Value::Integer(incident)];
    for word in q.split_whitespace().take(WORDS_MAX) {
        sql.push_str(
            " AND (src LIKE ? ESCAPE '\\' OR dst LIKE ? ESCAPE '\\' OR protocol LIKE ? ESCAPE '\\'",
        );
        let literal = escape(word);
        values.push(Value::Text(format!("%{literal}%")));
        values.push(Value::Text(format!("%{literal}%")));
        values.push(Value::Text(format!("{literal}%")));
        if let Ok(port) = word.parse::<u16>() {
            sql.push_str(" OR src_port = ? OR dst_port = ?");
            values.push(Value::Integer(port.into()));
            values.push(Value::Integer(port.into()));
        }
        sql.push(')');
    }
    (sql, values)
}

/// The word for LIKE, with its wildcards meant literally.
fn escape(word: &str) -> String {
    let mut literal = String::with_capacity(word.len());
    for letter in word.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn flow(row: &Row<'_>) -> rusqlite::Result<Flow> {
    let count = |column: &str| row.get(column).map(unsigned);
    Ok(Flow {
        interface: row.get("interface")?,
        protocol: row.get("protocol")?,
        src: row.get("src")?,
        src_port: row.get("src_port")?,
        dst: row.get("dst")?,
        dst_port: row.get("dst_port")?,
        first: Timestamp::from_ns(count("first_ns")?),
        last: Timestamp::from_ns(count("last_ns")?),
        packets_to: count("packets_to")?,
        packets_back: count("packets_back")?,
        bytes_to: count("bytes_to")?,
        bytes_back: count("bytes_back")?,
        tcp_flags: row.get("tcp_flags")?,
        syn_unanswered: count("syn_unanswered")?,
        rst: count("rst")?,
        retransmissions: count("retransmissions")?,
    })
}
