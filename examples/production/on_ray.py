"""The module on Ray Serve, for rayservice.yaml."""

import gothreads
import gothreads.ray

app = gothreads.ray.deployment(
    gothreads.remote("/app.wasm"), allow_hosts=["app.example.org"], timeout=10,
    ray_options={"ray_actor_options": {"num_cpus": 2}})
