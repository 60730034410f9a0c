#!/bin/sh
# Converges a host with Ansible over SSH: ansible-ssh.sh REGISTRY PLUGINS SSH_CONFIG
# PLUGINS: a JSON list of names. SSH_CONFIG: a file for ssh -F that has the host `bench`, and one connection kept for all of it.
# As quick as Ansible gets: no facts, pipelining, and nothing written in between.
set -eu
registry=$1
plugins=$2
config=$3
here=$(cd "$(dirname "$0")" && pwd)
export ANSIBLE_PIPELINING=1 ANSIBLE_STDOUT_CALLBACK=minimal ANSIBLE_SSH_ARGS="-F $config"
exec ansible-playbook -i bench, \
  -e "{\"registry\": \"$registry\", \"plugins\": $plugins, \"ansible_python_interpreter\": \"/usr/bin/python3\"}" \
  "$here/playbook.yaml"
