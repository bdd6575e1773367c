// Calls each method of toxiproxy-node-client, and prints "done".
const assert = require("assert");
const [client, url, upstream, given] = process.argv.slice(1);
const { Toxiproxy } = require(client);
const toxics = JSON.parse(given);

async function main() {
  const toxiproxy = new Toxiproxy(url);
  assert.match(await toxiproxy.getVersion(), /version/);
  const proxy = await toxiproxy.createProxy({ name: "node", listen: "127.0.0.1:0", upstream });
  await assert.rejects(
    toxiproxy.createProxy({ name: "node", listen: "127.0.0.1:0", upstream }), /409/);
  assert.strictEqual((await toxiproxy.get("node")).listen, proxy.listen);
  await assert.rejects(toxiproxy.get("nope"), /404/);
  const body = { listen: proxy.listen, upstream };
  assert.strictEqual((await proxy.update({ ...body, enabled: false })).enabled, false);
  assert.strictEqual((await proxy.update({ ...body, enabled: true })).enabled, true);
  for (const [type, attributes] of Object.entries(toxics)) {
    const toxic = await proxy.addToxic(
      { name: `my_${type}`, type, stream: "upstream", toxicity: 0.5, attributes });
    for (const [key, value] of Object.entries(attributes)) {
      assert.strictEqual(toxic.attributes[key], value);
    }
  }
  await assert.rejects(proxy.addToxic({ name: "x", type: "nope", attributes: {} }), /400/);
  const slow = await proxy.getToxic("my_latency");
  const changed = await slow.update(
    { ...slow.toJson(), toxicity: 0.25, attributes: { latency: 7, jitter: 3 } });
  assert.strictEqual(changed.toxicity, 0.25);
  assert.strictEqual(changed.attributes.latency, 7);
  await changed.remove();
  await assert.rejects(proxy.getToxic("my_latency"), /404/);
  await proxy.refreshToxics?.();
  await toxiproxy.populate([{ name: "other", listen: "127.0.0.1:0", upstream }]);
  const all = await toxiproxy.getAll();
  assert.ok("node" in all && "other" in all && "echo-udp" in all);
  await toxiproxy.reset();
  await assert.rejects(proxy.getToxic("my_timeout"), /404/);
  await all.other.remove();
  await proxy.remove();
  assert.ok(!("node" in await toxiproxy.getAll()));
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
