"""Figures of the counting baselines by SQL over the raw files of Complete Journey."""

# Ranks by SQL's own mid-rank, from the raw files alone: nothing of the pipeline takes part.
SQL = """
with lines as (
    select household_id::varchar as user_id, basket_id, product_id::varchar as item,
           transaction_timestamp::timestamp as time
    from read_json($files)
), before as (
    select * from lines where time < $cut::timestamp
), baskets as (
    select user_id, basket_id, row_number() over (partition by user_id order by min(time)) as place
    from lines where time >= $cut::timestamp and time < $until::timestamp group by user_id, basket_id
), targets as (
    select distinct user_id, item from lines join baskets using (user_id, basket_id)
    where place = 1
), popular as (
    select item, count(*) as n, count(*) filter (time >= $cut::timestamp - interval 28 day) as n_recent
    from before group by item
), own as (
    select user_id, item, count(*) as n,
           sum(pow(0.5, (epoch_us($cut::timestamp) - epoch_us(time)) / (120 * 86400e6))) as decayed
    from before group by user_id, item
), ordered as (
    -- Sums of one set of times may differ in the last digits, by the order of their terms.
    select users.user_id, popular.item,
           dense_rank() over (
               partition by users.user_id order by round(coalesce(own.decayed, 0), 12), popular.n
           ) as place
    from (select distinct user_id from targets) as users cross join popular
    left join own on own.user_id = users.user_id and own.item = popular.item
), scored as (
    select users.user_id, popular.item, popular.n as popularity, popular.n_recent as recent_popularity,
           coalesce(own.n, 0) * 1e6 + popular.n as own_frequency, ordered.place::double as decayed_own_frequency
    from (select distinct user_id from targets) as users cross join popular
    join ordered on ordered.user_id = users.user_id and ordered.item = popular.item
    left join own on own.user_id = users.user_id and own.item = popular.item
), long as (
    unpivot scored on popularity, recent_popularity, own_frequency, decayed_own_frequency into name method value score
), placed as (
    select *, row_number() over (partition by method, user_id order by score desc) as place from long
), ranked as (
    select method, user_id, item, avg(place) over (partition by method, user_id, score) as mid_rank from placed
), judged as (
    select methods.method, targets.user_id, own.n is not null as is_own,
           targets.item not in (select item from popular) as is_cold,
           targets.user_id not in (select user_id from before) as is_new,
           coalesce(ranked.mid_rank, 'inf'::double) as mid_rank
    from targets cross join (select distinct method from long) as methods
    left join ranked on (ranked.method, ranked.user_id, ranked.item) = (methods.method, targets.user_id, targets.item)
    left join own on (own.user_id, own.item) = (targets.user_id, targets.item)
), parts as (
    select judged.*, k, part, row_number() over (partition by method, user_id, k, part order by mid_rank) as n_until
    from judged cross join (values (1), (5), (10), (20)) as places(k)
    cross join (values (''), ('|repeat'), ('|novel'), ('|cold_items'), ('|cold_users')) as parts(part)
    where case part when '|repeat' then is_own when '|novel' then not is_own when '|cold_items' then is_cold
                    when '|cold_users' then is_new else true end
), tied as (
    select *, avg(n_until) over (partition by method, user_id, k, part, mid_rank) as n_up_to from parts
), users as (
    select method, user_id, k, part,
           max((mid_rank <= k)::double) as hit_rate,
           avg((mid_rank <= k)::double) as recall,
           sum(case when mid_rank <= k then 1 / log2(1 + mid_rank) else 0 end)
               / list_sum([1 / log2(1 + place) for place in range(1, 1 + least(k, count(*)))]) as ndcg,
           count(*) filter (mid_rank <= k) / k as precision,
           sum(case when mid_rank <= k then n_up_to / mid_rank else 0 end) / least(k, count(*)) as map,
           max(case when mid_rank <= k then 1 / mid_rank else 0 end) as mrr,
           max(1 / mid_rank) as mrr_all
    from tied group by method, user_id, k, part
), means as (
    unpivot users on hit_rate, recall, ndcg, precision, map, mrr, mrr_all into name metric value figure
)
select method, case metric when 'mrr_all' then 'mrr' else metric || '@' || k || part end as name, avg(figure) as mean,
       stddev_samp(figure) / sqrt(count(*)) as error, count(*) as n_users
from means
where case when metric = 'mrr_all' then k = 10 and part = ''
           else part = '' or k = 10 and metric in ('recall', 'ndcg') end
group by method, name, metric
union all
select method, 'coverage@10', count(distinct item) filter (mid_rank <= 10) / count(distinct item), null,
       count(distinct user_id)
from ranked group by method
"""
