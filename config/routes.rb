# frozen_string_literal: true

TaskerCore::Engine.routes.draw do
  # The pages: HTML, whatever a path ends with.
  scope module: "dashboard", as: "dashboard", format: false do
    root to: "overview#show"
    get "dashboard-:digest.css", to: "stylesheets#show", as: "stylesheet", constraints: { digest: /\h{16}/ }
    resources :workflows, only: %i[index show], constraints: { id: /\d{1,18}/ }
    resources :tasks, only: %i[index show] do
      get :graph, on: :member
      verbs = { verb: /cancel|reset|resolve/ }
      get ":verb", to: "verbs#new", as: "verb", constraints: verbs
      post ":verb", to: "verbs#create", constraints: verbs
      get "steps/:name", to: "steps#show", as: "step"
      verbs = { verb: /retry|resolve|complete|release|update_result/ }
      get "steps/:name/:verb", to: "verbs#new", as: "step_verb", constraints: verbs
      post "steps/:name/:verb", to: "verbs#create", constraints: verbs
    end
  end

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
