/**
 * The common table `turn`: whether a fence is older than one this database has seen, that of the lease or of any status.
 * The lease row alone would not do: it can be deleted by hand. `epoch` and `n` are the placeholders of the fence.
 */
export function turnOf(epoch: string, n: string): string {
  const fence = `(${epoch}::bigint, ${n}::bigint)`;
  return `
  turn as (
    select coalesce((select (epoch, n) > ${fence} from plugset.leases where name = 'controller'), false)
        or coalesce((select (fence_epoch, fence_n) > ${fence} from plugset.workspace_status
                      order by fence_epoch desc, fence_n desc limit 1), false) as is_stale)`;
}
