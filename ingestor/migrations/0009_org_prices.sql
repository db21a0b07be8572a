-- Prices that organisations negotiated come before the list's.
ALTER TABLE requests
    COMMENT COLUMN cost_source 'list_price, org_price (the organisation''s own), free_model, not_billed; empty when cost is NULL',
    COMMENT COLUMN price_id 'provider/model of the entry that was applied, of the price list or of the organisation''s own prices',
    COMMENT COLUMN price_version 'Price list and its version; of an own price: registry and the version of the organisation''s record, as in registry_changes',
    COMMENT COLUMN unpriced_reason 'Why cost is NULL: no_usage, model_missing, model_unknown, provider_unknown, tier_unknown, unit_without_price, unit_not_reported, usage_out_of_range, org_prices_unknown (the organisation''s record cannot be read)';
