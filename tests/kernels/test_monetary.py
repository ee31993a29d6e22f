"""The monetary economy: where definition and twin are compared. Its economics is tested in test_monetary_economics.py."""

SMALL = {"n_consumers": 40, "n_firms": 5, "n_banks": 3, "burn_in": 0}
WORLDS = {  # the first one has failing banks, an entrant, a crisis and an excluded consumer
    "everything at once": {**SMALL, "resolution": 1, "equity": (-10**9, 10**7, 10**10), "capital": (1e-3, 150.0, 160.0, 170.0, 180.0),
                           "equity_shock": 0.3, "excluded": 1, "wages_never_fall": True, "risk_aversion": 2.0, "asset_purchases": 0.01},
    "as it is": SMALL,
    "bail-out": {**SMALL, "equity": (-10**9, 10**7, 10**10), "treasury": 10**13},
    "forbearance": {**SMALL, "resolution": 2, "equity": -10**9},
    "nobody works": {**SMALL, "employer": -1},
    "everybody works for one": {**SMALL, "employer": 3, "effort": 2},
    "entrants only": {**SMALL, "capital": 1e-3, "normal_capital": 100.0},
    "debtors": {**SMALL, "loans": 10**7, "deposits": 0, "firm_deposits": 0, "firm_loans": 10**10, "spell": 5},
    "empty shops": {**SMALL, "inventory": 0.0, "firm_productivity": -5.0},
    "full shops": {**SMALL, "inventory": 100.0, "inventory_cost": 10**7},
    "ghost town": {**SMALL, "labor": 0.0, "employer": -1, "loans": 10**9, "deposits": 0, "inventory": 0.0, "produced": 0.0,
                   "loss_chance": 0.5,
                   "entrant": 1, "star": 1},
    "no vacancies": {**SMALL, "hiring": -0.9, "separation": 0.9999, "fill_rate": 1.0},
    "one firm, one bank": {"n_consumers": 2, "n_firms": 1, "n_banks": 1, "burn_in": 0},
    "many": {"n_consumers": 700, "n_firms": 300, "n_banks": 12, "burn_in": 0},
}
FLOAT32 = {  # logarithms of ratios near one, and what is made of them
    "inflation": 4e-6, "inflation_4q": 1e-6, "credit_growth": 4e-6, "output_gap": 1e-5, "gap_change": 1e-5, "central_bank": 0.01,
    "consumer": 1e-4,
}
