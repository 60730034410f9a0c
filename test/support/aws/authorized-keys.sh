#!/bin/sh
# What an instance does with pushed keys (aws-ec2-instance-connect-config): sshd asks it for the keys of a user that have a
# fingerprint, twice for each login. A key counts until the moment that stands before it, by the clock of the instance.
user=$1 fingerprint=$2
now=$(($(date +%s%N) / 1000000))
for file in "/run/ec2-instance-connect/$user"/*; do
  [ -f "$file" ] || continue
  read -r expires key <"$file"
  [ "$expires" -gt "$now" ] || continue
  [ "$(printf '%s\n' "$key" | ssh-keygen -lf - | cut -d ' ' -f 2)" != "$fingerprint" ] || printf '%s\n' "$key"
done
