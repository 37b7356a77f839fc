"""redisquota on a real cluster, behind real Sentinels, with users, and through TLS."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mixer.adapters.testing import settle
from mixer.api.codes import Code
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("redis topologies")]

QUOTAS = [
    {"name": "fixed", "maxAmount": 10, "validDuration": "60s"},
    {"name": "rolling", "maxAmount": 10, "validDuration": "60s", "bucketDuration": "1s", "rateLimitAlgorithm": 1},
    {"name": "tokens", "maxAmount": 10, "validDuration": "3600s", "rateLimitAlgorithm": "TOKEN_BUCKET"},
    {"name": "leases", "maxAmount": 10, "validDuration": "60s", "rateLimitAlgorithm": "CONCURRENCY"},
]
PATIENT = {"quotas": QUOTAS, "requestTimeout": "2s"}


async def grants(take, **dimensions):
    return [(await take(quota["name"], amount, **dimensions)).amount for quota in QUOTAS for amount in (7, 7)]


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster():
    """Three nodes, each with a third of the slots."""
    arguments = ("--cluster-enabled", "yes", "--cluster-node-timeout", "15000")  # a busy machine is no failure
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(RedisServer.start(*arguments)) for _ in range(3)]
        for place, node in enumerate(nodes):
            node.command("CLUSTER", "ADDSLOTS", *range(place, 16384, 3))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        for node in nodes[1:]:
            nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port)

        def ready():
            infos = [node.command("CLUSTER", "INFO") for node in nodes]
            return all("cluster_state:ok" in info and "cluster_slots_ok:16384" in info for info in infos)

        until(ready)
        yield nodes


async def test_cluster_counts_on_all_its_nodes(running, cluster):
    take = await running(redisServerUrl=cluster[0].address, mode="CLUSTER", **PATIENT)
    assert await grants(take) == [7, 0] * 4
    crowds = [take(quota["name"], 1, source=f"s{n}") for quota in QUOTAS for n in range(40)]
    assert {result.amount for result in await asyncio.gather(*crowds)} == {1}
    sizes = [node.command("DBSIZE") for node in cluster]
    assert all(size > 20 for size in sizes)
    assert sum(take.count("failures", reason=reason) for reason in ("server_error", "connection", "timeout")) == 0
    for node in cluster:
        node.command("SCRIPT", "FLUSH")
    assert (await take("fixed", 3)).amount == 3
    for node in cluster:
        node.command("FLUSHALL")


async def test_cluster_is_followed_when_a_slot_moves(running, cluster):
    take = await running(redisServerUrl=f"{cluster[1].address},{cluster[0].address}", mode="CLUSTER", **PATIENT)
    assert (await take("fixed", 7)).amount == 7
    (key,) = [key for node in cluster for key in node.command("KEYS", "*:f")]
    slot = cluster[0].command("CLUSTER", "KEYSLOT", key)
    source = next(node for node in cluster if node.command("CLUSTER", "COUNTKEYSINSLOT", slot))
    target = next(node for node in cluster if node is not source)
    source_id, target_id = source.command("CLUSTER", "MYID"), target.command("CLUSTER", "MYID")
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, 10)
    source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *keys)
    for node in (target, source):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    assert (await take("fixed", 7)).amount == 0
    assert (await take("fixed", 3)).amount == 3


async def test_cluster_node_that_freezes_stalls_nobody(running, cluster):
    take = await running(redisServerUrl=cluster[0].address, mode="CLUSTER", quotas=QUOTAS)
    for _ in range(20):
        if (await take("fixed", 1, source="warm")).amount:
            break
        await asyncio.sleep(0.05)
    with cluster[2].frozen():
        started = time.perf_counter()
        results = [await take("fixed", 1, source=f"x{n}") for n in range(30)]
        assert time.perf_counter() - started < 30 * 0.2
        assert any(result.status.code == Code.UNAVAILABLE for result in results)
    started = time.perf_counter()
    while (await take("fixed", 1, source=f"y{time.perf_counter()}")).status.code != Code.OK:
        assert time.perf_counter() - started < 2
        await asyncio.sleep(0.01)


@pytest.fixture
def sentinel(tmp_path):
    """A master, a replica and the Sentinel that watches them; all want passwords."""
    users = ("--requirepass", "redis-secret", "--masterauth", "redis-secret")
    auth = ("default", "redis-secret")
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(RedisServer.start(*users, auth=auth))
        replica = stack.enter_context(
            RedisServer.start(*users, "--replicaof", "127.0.0.1", str(master.port), auth=auth)
        )
        until(lambda: replica.command("INFO", "replication")["master_link_status"] == "up")
        file = tmp_path / "sentinel.conf"
        file.write_text(
            f"sentinel monitor shop 127.0.0.1 {master.port} 1\n"
            "sentinel auth-pass shop redis-secret\n"
            "sentinel down-after-milliseconds shop 300\n"
            "sentinel failover-timeout shop 2000\n"
            "requirepass sentinel-secret\n"
        )
        watcher = stack.enter_context(RedisServer.start(str(file), "--sentinel", auth=("default", "sentinel-secret")))
        until(lambda: replica.port in [int(r["port"]) for r in watcher.command("SENTINEL", "REPLICAS", "shop")])
        yield watcher, master, replica


async def test_sentinel_leads_to_the_master_and_to_the_next_one(running, sentinel):
    watcher, master, replica = sentinel
    take = await running(
        redisServerUrl=f"127.0.0.1:1,{watcher.address}",
        mode="SENTINEL",
        sentinelMaster="shop",
        sentinelPassword="sentinel-secret",
        password="redis-secret",
        **PATIENT,
    )
    assert await grants(take) == [7, 0] * 4, take.env.logged
    assert await asyncio.to_thread(master.command, "DBSIZE") > 0
    await asyncio.to_thread(master.stop)
    started = time.perf_counter()
    while (await take("fixed", 1, source="after")).status.code != Code.OK:
        assert time.perf_counter() - started < 15
        await asyncio.sleep(0.02)
    assert (await asyncio.to_thread(replica.command, "ROLE"))[0] == "master"
    assert (await take("fixed", 10, source="after")).amount == 0
    assert "secret" not in str(take.env.logged)


async def test_user_with_the_least_rights_is_enough(running, redis, tmp_path):
    redis.command(
        "ACL", "SETUSER", "mixer", "on", ">hunter2", "~mixer:quota:*", "resetchannels",
        *["-@all", "+eval", "+evalsha", "+ping", "+time", "+get", "+set", "+del", "+pexpire", "+hset", "+hmget"],
        *["+lindex", "+lrange", "+lpop", "+rpop", "+rpush", "+lset", "+client", "+hello", "+select"],
    )  # fmt: skip
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    secrets = {"password": "hunter2"}, {"passwordFile": str(password)}
    for place, secret in enumerate(secrets):
        take = await running(redisServerUrl=redis.address, username="mixer", **secret, **PATIENT)
        assert await grants(take, source=f"{place}") == [7, 0] * 4
    wrong = await running(redisServerUrl=redis.address, username="mixer", password="hunter3", **PATIENT)
    result = await wrong("fixed", 1)
    assert (result.status.code, result.status.message) == (Code.UNAVAILABLE, "redisquota: Service Unavailable")
    assert "hunter" not in str(wrong.env.logged)
    redis.command("ACL", "SETUSER", "mixer", "-hset")
    assert (await take("fixed", 1, source="other")).status.code == Code.UNAVAILABLE
    assert take.count("failures", reason="access") == 1
    redis.command("ACL", "DELUSER", "mixer")


@pytest.fixture
async def tls(redis, tmp_path):
    """The address of a server that takes off TLS in front of Redis, and the file with its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)

    async def copy(source, target):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader, writer):
        to_redis = await asyncio.open_connection("127.0.0.1", redis.port)
        await asyncio.gather(copy(reader, to_redis[1]), copy(to_redis[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", str(certificate_file)
    server.close()
    await asyncio.sleep(0.05)


async def test_tls_is_spoken_and_certificates_are_checked(tls, running):
    address, file = tls
    trusting = await running(redisServerUrl=address, tls={"caFile": file}, **PATIENT)
    assert await grants(trusting) == [7, 0] * 4
    careless = await running(redisServerUrl=address, tls={"insecureSkipVerify": True}, **PATIENT)
    assert (await careless("fixed", 3)).amount == 3
    strict = await running(redisServerUrl=address, tls={}, **PATIENT)
    assert (await strict("fixed", 1)).status.code == Code.UNAVAILABLE
    for take in (trusting, careless, strict):
        await take.handler.aclose()
    await settle()
