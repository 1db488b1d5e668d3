# frozen_string_literal: true

TaskerCore::Engine.routes.draw do
  # The API: JSON, whatever a path ends with. config/openapi.yaml describes each of these.
  scope "api/v1", module: "v1", as: "v1", format: false do
    get "openapi.json", to: "openapi#show", as: "openapi"
    get "metrics", to: "metrics#show"
    get "health/live", to: "health#live"
    get "health/ready", to: "health#ready"
    get "health/status", to: "health#standing"

    resources :tasks, only: %i[index create show] do
      member do
        post :cancel
        post :reset
        post :resolve
        get :graph
        get :why
      end
      resources :attempts, only: :index
      resources :steps, only: %i[index show], param: :name do
        member do
          post :retry
          post :resolve
          post :complete
          post :release
          match :result, via: %i[post patch], action: :update_result
          get :attempts, to: "attempts#index"
        end
      end
    end

    get "workflows", to: "workflows#index"
    names = { namespace: /\w+/, name: /\w+/ }
    get "workflows/:namespace/:name", to: "workflows#show", as: "workflow", constraints: names
    version = { **names, version: %r{[^/]+} } # any text without spaces
    get "workflows/:namespace/:name/:version", to: "workflows#version", as: "workflow_version", constraints: version
    get "workflows/:namespace/:name/:version/graph", to: "workflows#graph", as: "workflow_graph", constraints: version

    match "(*path)", to: "unknown#show", via: :all
  end
end
