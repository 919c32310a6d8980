//! What an agent must be given before it can run.

use derms_agent_sdk::proto::{Asset, AssetKind, FailsafePolicy, Power};
use derms_agent_sdk::{
    AdapterError, AgentRuntime, Applied, BuildError, DerAdapter, DeviceInfo, Reading, Setpoint,
    async_trait,
};

struct Device;

#[async_trait]
impl DerAdapter for Device {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo::new(AssetKind::Pv, "Test", "Device")
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        Ok(Reading::default())
    }

    async fn apply(&self, _: &Setpoint) -> Result<Applied, AdapterError> {
        Ok(Applied::accepted())
    }

    async fn go_to_default(&self, _: Power) -> Result<Applied, AdapterError> {
        Ok(Applied::accepted())
    }
}

fn asset(number: u8, site: u8) -> Asset {
    let id =
        |kind: u8, number: u8| format!("00000000-0000-4000-80{kind:02x}-0000000000{number:02x}");
    let asset = id(1, number).parse().expect("this is a UUID");
    let site = id(2, site).parse().expect("this is a UUID");
    Asset::new(
        asset,
        "A",
        site,
        AssetKind::Pv,
        Power::ZERO,
        Power::from_mw(5.0),
    )
}

fn build(headend: &str, assets: &[Asset]) -> Result<AgentRuntime, BuildError> {
    let mut builder = AgentRuntime::builder(headend.parse().expect("this is a URI"));
    for asset in assets {
        builder = builder.adapter(asset.clone(), Device);
    }
    builder.build()
}

const HEADEND: &str = "http://127.0.0.1:50051";

#[test]
fn one_asset_or_several_of_one_site_say_who_the_agent_is() {
    assert!(build(HEADEND, &[asset(1, 1)]).is_ok());
    assert!(build(HEADEND, &[asset(1, 1), asset(2, 1)]).is_ok());
    let error = build(HEADEND, &[asset(1, 1), asset(2, 2)]).unwrap_err();
    assert!(matches!(error, BuildError::AgentIdMissing));
}

#[test]
fn a_mistake_is_told_with_what_to_change() {
    let mut crossed = asset(1, 1);
    crossed.min_mw = Power::from_mw(9.0);
    let mut outside = asset(1, 1);
    outside.default_mw = Power::from_mw(-1.0);
    let mut infinite = asset(1, 1);
    infinite.max_mw = Power::from_mw(f64::INFINITY);
    let mut hasty = asset(1, 1);
    hasty.failsafe.after_s = 0;
    let mut boundless = asset(1, 1);
    boundless.failsafe.policy = FailsafePolicy::Value(Power::from_mw(f64::NAN));
    for (headend, assets, text) in [
        (HEADEND, vec![], "add one with `adapter("),
        (HEADEND, vec![asset(1, 1), asset(1, 1)], "added twice"),
        (HEADEND, vec![crossed], "swap or mend them"),
        (HEADEND, vec![outside], "default_mw -1 is outside"),
        (HEADEND, vec![infinite], "finite"),
        (HEADEND, vec![boundless], "failsafe value"),
        (HEADEND, vec![hasty], "write 1 or more"),
        ("https://h:1", vec![asset(1, 1)], "TLS"),
        (
            "localhost:50051",
            vec![asset(1, 1)],
            "://headend.example:50051",
        ),
        ("/path", vec![asset(1, 1)], "://headend.example:50051"),
    ] {
        let error = build(headend, &assets).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_boxed_and_a_shared_adapter_are_adapters() {
    let boxed: Box<dyn DerAdapter> = Box::new(Device);
    let shared = std::sync::Arc::new(Device);
    let builder = AgentRuntime::builder(HEADEND.parse().unwrap());
    assert!(
        builder
            .adapter(asset(1, 1), boxed)
            .adapter(asset(2, 1), shared)
            .build()
            .is_ok()
    );
}
