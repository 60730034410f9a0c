#!/bin/sh
# Converges containers with Ansible: ansible.sh REGISTRY PLUGINS CONTAINER…
# PLUGINS: a JSON list of names. DOCKER_HOST says which engine. As quick as Ansible gets: a fork for each container, no
# facts, pipelining, and nothing written in between.
set -eu
registry=$1
plugins=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
hosts=$(printf '%s,' "$@")
export ANSIBLE_PIPELINING=1 ANSIBLE_FORKS="$#" ANSIBLE_STDOUT_CALLBACK=minimal ANSIBLE_HOST_KEY_CHECKING=0
exec ansible-playbook -i "$hosts" -c community.docker.docker \
  -e "{\"registry\": \"$registry\", \"plugins\": $plugins, \"ansible_python_interpreter\": \"/usr/bin/python3\"}" \
  "$here/playbook.yaml"
