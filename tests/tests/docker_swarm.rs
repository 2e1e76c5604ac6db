//! `examples/swarm`, on an engine that is the one node of a Swarm.

use std::fs;
use std::path::Path;
use std::time::Duration;

use convoy_tests::error::check;
use convoy_tests::{Carrier, Convoy, Engine, Lab, Result, Setup, patience};

/// How long a task may take to run and to write: Swarm starts a task that failed again after five seconds.
const TASK: Duration = Duration::from_secs(40);

/// The words of `docker stack deploy` for the example.
fn deploy() -> [String; 7] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/swarm/stack.yaml");
    // Nobody asks a registry what the image is.
    ["stack", "deploy", "--resolve-image", "never", "-c", &file.display().to_string(), "shop"]
        .map(str::to_owned)
}

/// Waits until the journal has more entries than so many; they have no gap.
fn grows(convoy: &Convoy, from: usize) -> Result<usize> {
    let journal = convoy.setup().volumes.join("shop_journal/journal");
    let mut text = String::new();
    patience::until("more entries in the journal", TASK, || {
        text = fs::read_to_string(&journal).unwrap_or_default();
        Ok(text.lines().count() > from)
    })?;
    for (line, number) in text.lines().zip(1_u64..) {
        check(line.starts_with(&format!("{number}: ")), || format!("entry {number} is {line}"))?;
    }
    Ok(text.lines().count())
}

/// The one running container of the service, once there is one that is not `other`.
fn task(engine: &Engine, other: &str) -> Result<String> {
    let mut id = String::new();
    patience::until("a task of the service", TASK, || {
        id = engine.ok(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=shop_journal"])?;
        Ok(!id.is_empty() && !id.contains('\n') && id != other)
    })?;
    Ok(id)
}

/// Waits until the volume is mounted, or not.
fn settles(convoy: &Convoy, mounted: bool) -> Result<()> {
    patience::until("the mount of the volume to change", TASK, || {
        Ok(convoy.mount_point("shop_journal")?.is_empty() != mounted)
    })
}

#[test]
fn a_service_keeps_its_volume_wherever_its_task_starts() -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let engine = Engine::start_swarm(lab, &convoy.setup().socket)?;
        let node = engine.ok(&["node", "ls", "-q"])?;
        engine.ok(&["node", "update", "--label-add", "shop.journal=here", &node])?;
        // Swarm places a task where the engine has used its plugin: this does.
        engine.ok(&["volume", "ls"])?;
        let words = deploy();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        engine.ok(&words)?;
        let written = grows(&convoy, 0)?;
        assert_eq!(convoy.names()?, ["shop_journal"]);

        // A task that dies is started again.
        let first = task(&engine, "")?;
        engine.ok(&["kill", &first])?;
        let second = task(&engine, &first)?;
        let written = grows(&convoy, written)?;

        // An update replaces it.
        engine.ok(&["service", "update", "--force", "--detach", "shop_journal"])?;
        let third = task(&engine, &second)?;
        let written = grows(&convoy, written)?;

        // A node that is drained gives the volume back, and another task takes it when there is a node again.
        engine.ok(&["node", "update", "--availability", "drain", &node])?;
        settles(&convoy, false)?;
        engine.ok(&["node", "update", "--availability", "active", &node])?;
        task(&engine, &third)?;
        settles(&convoy, true)?;
        let written = grows(&convoy, written)?;

        // The stack goes, the volume and its data stay.
        engine.ok(&["stack", "rm", "shop"])?;
        settles(&convoy, false)?;
        assert_eq!(convoy.names()?, ["shop_journal"]);
        patience::until("a stack of the same name", TASK, || Ok(engine.run(&words)?.success()))?;
        grows(&convoy, written)?;
        engine.ok(&["stack", "rm", "shop"])?;
        settles(&convoy, false)
    })
}

#[test]
fn each_task_has_a_volume_of_its_own_where_the_name_says_so() -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let engine = Engine::start_swarm(lab, &convoy.setup().socket)?;
        engine.ok(&["volume", "ls"])?;
        let mount = format!(
            "type=volume,source=part-{{{{.Task.Slot}}}},target=/data,volume-driver={}",
            engine.plugin()
        );
        let service =
            ["service", "create", "--detach", "--no-resolve-image", "--network", "host", "--replicas", "2"];
        let shell = "echo $HOSTNAME > /data/name; exec sleep 1000";
        let rest =
            ["--name", "parts", "--mount", &mount, convoy_tests::engine::IMAGE, "/bin/sh", "-c", shell];
        engine.ok(&[&service[..], &rest[..]].concat())?;
        let name = |volume: &str| {
            fs::read_to_string(convoy.setup().volumes.join(volume).join("name")).unwrap_or_default()
        };
        patience::until("both tasks", TASK, || Ok(!name("part-1").is_empty() && !name("part-2").is_empty()))?;
        assert_eq!(convoy.names()?, ["part-1", "part-2"]);
        engine.ok(&["service", "rm", "parts"])?;
        patience::until("the end of both tasks", TASK, || Ok(engine.ok(&["ps", "-q"])?.is_empty()))
    })
}

#[test]
fn changes_of_one_node_at_the_same_time_are_all_made() -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let engine = Engine::start_swarm(lab, &convoy.setup().socket)?;
        let node = engine.ok(&["node", "ls", "-q"])?;
        let (engine, node) = (&engine, node.as_str());
        std::thread::scope(|scope| {
            let label = |who: &str, turn: u8| {
                engine.ok(&["node", "update", "--label-add", &format!("{who}{turn}=set"), node])
            };
            let threads = ["a", "b", "c"]
                .map(|who| scope.spawn(move || (0..8).try_for_each(|turn| label(who, turn).map(drop))));
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let labels = engine.ok(&["node", "inspect", "--format", "{{len .Spec.Labels}}", node])?;
        check(labels == "24", || format!("{labels} labels of 24"))
    })
}
