//! What a trap or inform says: the PDUs of RFC 1157 (version 1) and RFC 3416, made alike as RFC
//! 3584, section 3.1, says.

use std::net::{IpAddr, Ipv4Addr};

use super::ber::{self, Malformed, Oid, Reader};

/// The tags of PDUs.
pub(super) const RESPONSE: u8 = 0xa2;
pub(super) const TRAP_V1: u8 = 0xa4;
pub(super) const INFORM: u8 = 0xa6;
pub(super) const TRAP_V2: u8 = 0xa7;
pub(super) const REPORT: u8 = 0xa8;

/// Variables looked at.
const VARIABLES_MAX: usize = 64;
/// `snmpTraps` of SNMPv2-MIB: the generic traps.
pub(super) const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
pub(super) const SYS_UP_TIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
pub(super) const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
const SNMP_TRAP_ADDRESS: [u32; 10] = [1, 3, 6, 1, 6, 3, 18, 1, 3, 0];

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Integer(i64),
    Unsigned(u64),
    /// Hundredths of a second.
    Ticks(u64),
    Octets(Vec<u8>),
    Oid(Oid),
    Address(Ipv4Addr),
    /// Null, exceptions and what is not known.
    None,
}

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: Oid,
    pub(super) value: Value,
}

/// A trap or inform, of any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// Whether the sender waits for a response.
    pub(super) inform: bool,
    pub(super) request_id: i64,
    /// Which trap it is.
    pub(super) trap: Oid,
    /// Whom it is about, when the datagram's sender only passes it on.
    pub(super) agent: Option<IpAddr>,
    /// How long the sender is up, in hundredths of a second.
    pub(super) up: Option<u64>,
    /// The variables beside those.
    pub(super) variables: Vec<Variable>,
    /// The variables as they came, for the response.
    pub(super) raw_variables: Vec<u8>,
}

/// Reads the PDU that is next; `None` when it is none that tells something.
pub(super) fn notice(reader: &mut Reader<'_>) -> Result<Option<Notice>, Malformed> {
    match reader.peek() {
        Some(TRAP_V1) => version1(reader.sequence(TRAP_V1)?).map(Some),
        Some(tag @ (TRAP_V2 | INFORM)) => {
            let pdu = reader.sequence(tag)?;
            version2(pdu, tag == INFORM).map(Some)
        }
        Some(_) => Ok(None),
        None => Err(Malformed("there is no PDU")),
    }
}

fn version1(mut pdu: Reader<'_>) -> Result<Notice, Malformed> {
    let enterprise = pdu.oid()?;
    let agent = address(pdu.expect(ber::IP_ADDRESS)?)?;
    let generic = pdu.integer()?;
    let specific = u32::try_from(pdu.integer()?).map_err(|_| Malformed("a negative trap"))?;
    let up = ber::unsigned(pdu.expect(ber::TIME_TICKS)?)?;
    let raw_variables = pdu.expect(ber::SEQUENCE)?;
    // Generic traps 0 to 5 have names of their own, 6 is the enterprise's.
    let trap = match u32::try_from(generic) {
        Ok(generic @ 0..=5) => Oid::new(&SNMP_TRAPS).join(&[generic + 1]),
        _ => enterprise.join(&[0, specific]),
    };
    Ok(Notice {
        inform: false,
        request_id: 0,
        trap,
        agent: (!agent.is_unspecified()).then_some(IpAddr::V4(agent)),
        up: Some(up),
        variables: variables(raw_variables)?,
        raw_variables: raw_variables.to_vec(),
    })
}

fn version2(mut pdu: Reader<'_>, inform: bool) -> Result<Notice, Malformed> {
    let request_id = pdu.integer()?;
    let (_status, _index) = (pdu.integer()?, pdu.integer()?);
    let raw_variables = pdu.expect(ber::SEQUENCE)?;
    let (mut trap, mut up, mut agent) = (None, None, None);
    let mut rest = Vec::new();
    for variable in variables(raw_variables)? {
        match (variable.name.ids(), &variable.value) {
            (name, Value::Ticks(ticks)) if name == SYS_UP_TIME => up = Some(*ticks),
            (name, Value::Oid(oid)) if name == SNMP_TRAP_OID => trap = Some(oid.clone()),
            (name, Value::Address(address)) if name == SNMP_TRAP_ADDRESS => {
                agent = Some(IpAddr::V4(*address));
            }
            _ => rest.push(variable),
        }
    }
    Ok(Notice {
        inform,
        request_id,
        trap: trap.ok_or(Malformed("there is no snmpTrapOID.0"))?,
        agent,
        up,
        variables: rest,
        raw_variables: raw_variables.to_vec(),
    })
}

fn variables(bytes: &[u8]) -> Result<Vec<Variable>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut variables = Vec::new();
    while !reader.is_empty() {
        let mut pair = reader.sequence(ber::SEQUENCE)?;
        let name = pair.oid()?;
        let (tag, contents) = pair.element()?;
        if variables.len() < VARIABLES_MAX {
            let value = value(tag, contents)?;
            variables.push(Variable { name, value });
        }
    }
    Ok(variables)
}

fn value(tag: u8, contents: &[u8]) -> Result<Value, Malformed> {
    Ok(match tag {
        ber::INTEGER => Value::Integer(ber::integer(contents)?),
        ber::OCTETS => Value::Octets(contents.to_vec()),
        ber::OID => Value::Oid(ber::oid(contents)?),
        ber::IP_ADDRESS => Value::Address(address(contents)?),
        ber::COUNTER32 | ber::UNSIGNED32 | ber::COUNTER64 => {
            Value::Unsigned(ber::unsigned(contents)?)
        }
        ber::TIME_TICKS => Value::Ticks(ber::unsigned(contents)?),
        _ => Value::None,
    })
}

fn address(contents: &[u8]) -> Result<Ipv4Addr, Malformed> {
    let four: [u8; 4] = contents
        .try_into()
        .map_err(|_| Malformed("an address that is not four bytes"))?;
    Ok(four.into())
}

/// The PDU that answers an inform: its variables as they came, no error.
pub(super) fn response(notice: &Notice) -> Vec<u8> {
    ber::write_all(
        RESPONSE,
        &[
            ber::write_integer(notice.request_id),
            ber::write_integer(0),
            ber::write_integer(0),
            ber::write(ber::SEQUENCE, &notice.raw_variables),
        ],
    )
}
